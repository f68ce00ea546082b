"""Every kind of defense: its file, its twins, its place in a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtok.config.defenses import DeepTokensConfig, LoRAConfig, TokensConfig, WeightsConfig
from rtok.config.registry import DEFENSES
from rtok.defenses import Defense, load_defense
from rtok.defenses.base import same_twins
from rtok.defenses.deep_tokens import DeepTokens
from rtok.defenses.robustify import robustify
from rtok.errors import UserError
from rtok.inspection import inspect
from rtok.models import registry

SECTIONS = {
    "tokens": TokensConfig(count=3),
    "deep-tokens": DeepTokensConfig(count=2, init_std=0.3),
    "lora": LoRAConfig(rank=2, alpha=3, targets=["qkv", "fc1"], blocks=[1]),
    "weights": WeightsConfig(),
}


@pytest.fixture(autouse=True)
def _known(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models have their real names, as files give them."""
    for name in ("dinov2_vits14", "dinov3_vits16", "dinov3_vits16plus"):
        monkeypatch.setitem(registry._BY_NAME, name, tiny(name).spec)


def test_every_kind_is_here() -> None:
    assert set(SECTIONS) == set(DEFENSES)


def make(kind: str, backbone: Any, **changes: Any) -> Defense:
    """A defense that looks trained."""
    made: Defense = DEFENSES.find(kind).load().create(SECTIONS[kind].model_copy(update=changes), backbone, seed=0)
    noise = torch.Generator().manual_seed(3)
    values = {name: v + 0.1 * torch.randn(v.shape, generator=noise) for name, v in made.parameters().items()}
    return made.replaced(values)


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_file_holds_all_of_it(kind: str, tiny: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny("dinov3_vits16plus")
    backbone, images = model.load(image_size=64), model.images(2, 64)
    made = make(kind, backbone)
    made.save(tmp_path / "defense.safetensors")
    read = load_defense(tmp_path / "defense.safetensors")
    assert (read.kind, read.settings(), read.backbone, read.dim) == (kind, made.settings(), made.backbone, 64)
    assert read.image_size == (64, 64) and read.metadata == made.metadata and read.count == made.count
    assert torch.equal(read.model(backbone)(images), made.model(backbone)(images))
    assert not torch.allclose(read.model(backbone)(images), backbone(images), atol=1e-3)


@pytest.mark.parametrize("kind", SECTIONS)
def test_its_settings_train_another_of_the_same_form(kind: str, tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=56)
    made = make(kind, backbone)
    section = type(SECTIONS[kind]).model_validate(made.settings())
    other = DEFENSES.find(kind).load().create(section, backbone, seed=1)
    shapes = {name: values.shape for name, values in made.parameters().items()}
    assert {name: values.shape for name, values in other.parameters().items()} == shapes
    twin = made.untrained(backbone, 0, "control", 1)
    assert {name: values.shape for name, values in twin.parameters().items()} == shapes
    if made.kind == "weights":
        return  # all twins are the backbone
    one, same, seed, draw = (
        made.untrained(backbone, *key) for key in ((0, "a", 1), (0, "a", 1), (1, "a", 1), (0, "a", 2))
    )
    drawn = next(iter(shapes))
    assert torch.equal(one.parameters()[drawn], same.parameters()[drawn])
    for differs in (seed, draw):
        assert not torch.allclose(one.parameters()[drawn], differs.parameters()[drawn])


def test_deep_tokens_are_appended_to_every_block_and_leave_it(tiny: Callable[..., Any]) -> None:
    """Written out block by block; in the second model a block of its own shows that no token stays."""
    for name in ("dinov2_vits14", "dinov3_vits16"):
        model = tiny(name)
        backbone, images = model.load(image_size=64 if name.startswith("dinov3") else 56), None
        images = model.images(2, backbone.image_size[0])
        made = make("deep-tokens", backbone)
        assert isinstance(made, DeepTokens)
        from rtok.models.entry import embed

        sequence, rope = embed(backbone.vit, (images - backbone.mean) / backbone.std)
        own = sequence.shape[1]
        if rope is not None:
            width = rope.shape[1] // 2
            rope = torch.cat([rope, torch.cat([torch.zeros(2, width), torch.ones(2, width)], dim=1)])
        for block, values in zip(backbone.vit.blocks, made.values, strict=True):
            longer = torch.cat([sequence, values.expand(2, -1, -1)], dim=1)
            sequence = (block(longer) if rope is None else block(longer, rope=rope))[:, :own]
        expected = backbone.vit.norm(sequence)
        expected = torch.cat([expected[:, :1], expected[:, 1 + backbone.num_registers :]], dim=1)
        torch.testing.assert_close(made.model(backbone)(images), expected, rtol=0, atol=1e-6)
        assert made.model(backbone).largest_activations(images).shape[2] == own


def test_the_control_of_a_lora_is_the_plain_model(tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=56)
    defenses = [make(kind, backbone) for kind in SECTIONS]
    assert [twin.kind for twin in same_twins(defenses).values()] == ["deep-tokens", "tokens"]


@pytest.mark.parametrize("kind", SECTIONS)
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vits16"])
def test_it_goes_into_a_model_of_timm(name: str, kind: str, tiny: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny(name)
    backbone, images = model.load(), model.images()
    made = make(kind, backbone)
    normalized = (images - backbone.mean) / backbone.std
    frozen = robustify(model.vit, made)
    with torch.no_grad():
        found = frozen.forward_features(normalized)
    found = torch.cat([found[:, :1], found[:, 1 + backbone.num_registers :]], dim=1)
    assert (found - made.model(backbone)(images)).abs().max() < 1e-5 * max(1.0, float(found.abs().max()))
    assert not any(buffer.requires_grad for buffer in frozen.buffers())
    save_file(frozen.state_dict(), tmp_path / "whole.safetensors", metadata=frozen.metadata)
    read = load_defense(tmp_path / "whole.safetensors").parameters()
    assert all(torch.equal(read[key], value) for key, value in made.parameters().items())
    assert inspect(tmp_path / "whole.safetensors")[0].kind.endswith("(rtok.robustify)")

    trained = robustify(model.vit.requires_grad_(False), made, trainable=True)
    trained.forward_features(normalized).square().mean().backward()
    with_gradient = {key for key, p in trained.named_parameters() if p.grad is not None}
    assert with_gradient == {key.replace(".", "/") for key in made.parameters()}


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_compiled_model_computes_the_same(kind: str, tiny: Callable[..., Any]) -> None:
    """Features, the gradient to the images, and those to the parameters."""
    model = tiny("dinov2_vits14")
    plain, compiled, images = model.load(image_size=56), model.load(image_size=56), model.images(2, 56)
    torch._dynamo.reset()
    compiled.compile(backend="aot_eager", fullgraph=True)
    made = make(kind, plain)

    def results(backbone: Any) -> list[Any]:
        pixels = images.clone().requires_grad_(True)
        features = made.detached().model(backbone)(pixels)
        leaves = {name: values.clone().requires_grad_(True) for name, values in made.parameters().items()}
        made.replaced(leaves).model(backbone)(images).square().mean().backward()
        (to_pixels,) = torch.autograd.grad(features.square().mean(), pixels)
        return [features.detach(), to_pixels, *(v.grad for v in leaves.values())]

    for found, expected in zip(results(compiled), results(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_another_depth_is_refused(tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=56)
    made = make("deep-tokens", backbone)
    other = tiny("dinov2_vits14", depth=3).load(image_size=56)
    with pytest.raises(UserError, match="for 2 blocks, but the model has 3"):
        made.model(other)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("deep-tokens", {"init_std": "much"}, "damaged metadata: its init_std"),
        ("deep-tokens", {"format": "rtok-defense-9"}, "format 'rtok-defense-9'"),
        ("lora", {"form": "{}"}, "damaged metadata: the form of its LoRA"),
        ("lora", {"form": '{"rank": 2'}, "damaged metadata"),
        ("lora", {"format": "rtok-defense-9"}, "format 'rtok-defense-9'"),
        ("lora", {"kind": "tokens"}, "holds no robustness tokens"),
        ("deep-tokens", {"kind": "spell"}, "'spell', which this rtok does not know"),
    ],
)
def test_damaged_files_are_refused(
    kind: str, change: dict[str, str], message: str, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    made = make(kind, tiny("dinov2_vits14").load(image_size=56))
    save_file(made.parameters(), tmp_path / "d.safetensors", metadata={**made.metadata, **change})
    with pytest.raises(UserError, match=message):
        load_defense(tmp_path / "d.safetensors")


def test_a_tensor_of_another_shape_is_refused(tiny: Callable[..., Any], tmp_path: Path) -> None:
    made = make("lora", tiny("dinov2_vits14").load(image_size=56))
    made.save(tmp_path / "d.safetensors")
    tensors = load_file(tmp_path / "d.safetensors")
    tensors["qkv_B"] = tensors["qkv_B"][:, :, :1].contiguous()
    save_file(tensors, tmp_path / "d.safetensors", metadata=made.metadata)
    with pytest.raises(UserError, match=r"'qkv_B' in .* has the shape \(1, 192, 1\).*shape \(1, outputs, 2\)"):
        load_defense(tmp_path / "d.safetensors")
