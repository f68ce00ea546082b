"""A stack: several defenses on each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rtok.config.defenses import DeepTokensConfig, LoRAConfig, StackConfig, TokensConfig, WeightsConfig
from rtok.config.registry import DEFENSES
from rtok.defenses import Defense, load_defense
from rtok.defenses.robustify import robustify
from rtok.defenses.stack import Stack
from rtok.errors import UserError
from rtok.inspection import inspect
from rtok.models import registry
from rtok.models.loading import build_backbone

FORMS = [WeightsConfig(), LoRAConfig(rank=2), TokensConfig(count=2), DeepTokensConfig(count=3), LoRAConfig(rank=1)]


@pytest.fixture(params=["dinov2_vits14", "dinov3_vits16"])
def model(request: pytest.FixtureRequest, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = tiny(request.param)
    monkeypatch.setitem(registry._BY_NAME, request.param, made.spec)
    return made


def members(backbone: Any, forms: Any = FORMS) -> list[Defense]:
    """Defenses that look trained."""
    noise, found = torch.Generator().manual_seed(3), []
    for form in forms:
        made: Defense = DEFENSES.find(form.kind).load().create(form, backbone, seed=0)
        found.append(
            made.replaced({k: v + 0.1 * torch.randn(v.shape, generator=noise) for k, v in made.parameters().items()})
        )
    return found


def by_hand(backbone: Any, stacked: list[Defense], images: Tensor) -> Tensor:
    """Weights merged one after the other into a backbone of their own, then tokens, appended block by block."""
    weights, lora, tokens, deep, last = stacked
    merged = last.merged_into(lora.merged_into(weights.merged_into({})))
    own = build_backbone(backbone.spec, merged, image_size=backbone.image_size)

    class Both(type(deep.entry())):  # type: ignore[misc]
        def begin(self, sequence: Tensor, rope: Tensor | None) -> Any:
            return super().begin(*tokens.entry().begin(sequence, rope))

    features: Tensor = own(images, Both(deep.values))
    return features


def test_each_finds_those_before_it(model: Any) -> None:
    size = 3 * model.spec.patch_size
    backbone, images = model.load(image_size=size), model.images(2, size)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    parts = members(backbone)
    stack = Stack.of(*parts)
    expected = by_hand(backbone, parts, images)
    defended = stack.model(backbone)
    bar = 1e-5 * float(expected.abs().max())
    assert (defended(images) - expected).abs().max() < bar
    assert (defended(images) - expected).abs().max() < bar  # bound once, called again
    for k in range(len(parts)):  # every member counts
        assert (Stack.of(*parts[:k], *parts[k + 1 :]).model(backbone)(images) - expected).abs().max() > 100 * bar
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert (stack.count, stack.dim, stack.has_control, stack.fit_lr) == (5, 64, True, 1e-4)
    assert not Stack.of(*parts[:2]).has_control
    twin = stack.untrained(backbone, 0, "control", 1)
    assert {name: t.shape for name, t in twin.parameters().items()} == {
        n: t.shape for n, t in stack.parameters().items()
    }
    assert hash(twin.twin_key) == hash(stack.twin_key)


def test_its_file_and_its_model_of_timm_hold_all_of_it(model: Any, tmp_path: Path) -> None:
    backbone, images = model.load(), model.images(1)
    stack = Stack.of(*members(backbone))
    expected = stack.model(backbone)(images)
    stack.save(tmp_path / "stack.safetensors")
    whole = robustify(model.vit, stack)
    save_file(whole.state_dict(), tmp_path / "whole.safetensors", metadata=whole.metadata)
    for name in ("stack.safetensors", "whole.safetensors"):
        read = load_defense(tmp_path / name)
        assert isinstance(read, Stack) and [m.kind for m in read.members] == [form.kind for form in FORMS]
        assert read.settings() == stack.settings() and read.metadata == stack.metadata
        assert torch.equal(read.model(backbone)(images), expected)
        assert "stacked defenses" in inspect(tmp_path / name)[0].kind or "robustify" in inspect(tmp_path / name)[0].kind
    with torch.no_grad():
        found = whole.forward_features((images - backbone.mean) / backbone.std)
    found = torch.cat([found[:, :1], found[:, 1 + backbone.num_registers :]], dim=1)
    assert (found - expected).abs().max() < 1e-5 * float(expected.abs().max())


def test_a_config_stacks_files(model: Any, tmp_path: Path) -> None:
    backbone = model.load()
    for name, member in zip("ab", members(backbone, [LoRAConfig(rank=2), TokensConfig(count=2)]), strict=True):
        member.save(tmp_path / f"{name}.safetensors")
    place = StackConfig(stack=[tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    read = load_defense(place)
    assert isinstance(read, Stack) and [member.kind for member in read.members] == ["lora", "tokens"]
    assert str(place) == f"{tmp_path}/a.safetensors + {tmp_path}/b.safetensors"


def test_what_cannot_be_a_stack_is_refused(model: Any, tmp_path: Path) -> None:
    backbone = model.load()
    parts = members(backbone, [LoRAConfig(rank=2), TokensConfig(count=2)])
    with pytest.raises(UserError, match="two defenses or more, not 1"):
        Stack.of(parts[0])
    stack = Stack.of(*parts)
    for members_text in ("[1]", "{", '[{"kind": 3}]'):
        save_file(stack.parameters(), tmp_path / "s.safetensors", metadata={**stack.metadata, "members": members_text})
        with pytest.raises(UserError, match="damaged metadata: the members of its stack"):
            load_defense(tmp_path / "s.safetensors")
