"""Weights: files of other code bases as victims, and full fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rtok.config.defenses import WeightsConfig
from rtok.defenses import RobustnessTokens, load_defense
from rtok.defenses.weights import FullWeights
from rtok.errors import UserError
from rtok.evaluation.victims import open_defense
from rtok.models import load_backbone, registry
from rtok.models.weights import translate_back

NAMINGS = {
    "dinov2_vits14": 3,
    "dinov2_vits14_reg": 3,
    "dinov2_vitg14": 3,
    "deit3_small_patch16_224": 2,
    "openclip_vitb32": 2,
    "dinov3_vits16": 3,
    "timm:vit_small_patch8_224": 1,
}


@pytest.fixture
def known(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A tiny model under its real name."""

    def make(name: str) -> Any:
        model = tiny(name)
        monkeypatch.setitem(registry._BY_NAME, name, model.spec)
        return model

    return make


def tuned(model: Any) -> dict[str, Tensor]:
    """The weights after somebody's fine-tuning, under timm's names."""
    noise = torch.Generator().manual_seed(9)
    state = model.vit.state_dict()
    found = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=noise) for name, tensor in state.items()}
    if "head.bias" in found:
        found["head.bias"].zero_()  # which OpenCLIP's files do not have
    return found


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, count in NAMINGS.items() for i in range(count)])
def test_a_file_of_others_is_the_model_with_its_weights(
    name: str, number: int, known: Callable[..., Any], tmp_path: Path
) -> None:
    """In every naming; away from the native size positions are resized as the family does it."""
    model = known(name)
    naming, state = model.spec.namings[number], tuned(model)
    torch.save({"model": translate_back(state, naming)}, tmp_path / "tuned.pth")
    save_file(state, tmp_path / "timm.safetensors")
    size = 3 * model.spec.patch_size
    backbone, images = model.load(image_size=size), model.images(2, size)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    defense = open_defense(tmp_path / "tuned.pth", backbone)
    assert (defense.kind, defense.backbone, defense.count) == ("weights", name, None)
    defended = defense.model(backbone)
    expected = load_backbone(model.spec, weights=tmp_path / "timm.safetensors", image_size=size)
    assert torch.equal(defended(images), expected(images))
    assert torch.equal(defended.intermediate(images, [0])[0], expected.intermediate(images, [0])[0])
    assert not torch.allclose(defended(images), backbone(images), atol=1e-2)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_without_a_name_the_weights_tell_the_backbone(known: Callable[..., Any], tmp_path: Path) -> None:
    model = known("dinov2_vits14")
    found = load_defense(model.path)
    assert isinstance(found, FullWeights) and found.backbone == "dinov2_vits14" and found.dim == 64
    state = model.vit.state_dict()
    save_file({**state, "extra": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"fit no backbone that `rtok models` lists.*model=NAME"):
        load_defense(tmp_path / "other.safetensors")


def test_weights_of_another_architecture_are_refused(known: Callable[..., Any], tmp_path: Path) -> None:
    model = known("dinov2_vits14")
    backbone = model.load(image_size=56)
    other = known("deit3_small_patch16_224")
    with pytest.raises(UserError, match=r"deit3_small.* are not those of 'dinov2_vits14' \(read in"):
        open_defense(other.path, backbone)
    torch.save({"weight": torch.zeros(3, 64), "bias": torch.zeros(3)}, tmp_path / "head.pth")
    with pytest.raises(UserError, match="holds no robustness tokens"):
        open_defense(tmp_path / "head.pth", backbone)
    state = {**model.vit.state_dict(), "norm.bias": torch.full((64,), torch.nan)}
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"holds NaN or infinity, for example in norm\.bias"):
        open_defense(tmp_path / "nan.safetensors", backbone)
    lacking = {name: tensor for name, tensor in model.vit.state_dict().items() if name != "norm.bias"}
    for tensors in (lacking, {**lacking, "norm.bias": torch.zeros(65)}):
        with pytest.raises(UserError, match=r"another architecture than the model: norm.bias\."):
            FullWeights(tensors).model(backbone)


def test_tokens_beside_a_model_are_tokens(known: Callable[..., Any], tmp_path: Path) -> None:
    """The whole-model checkpoint of the original code."""
    model = known("dinov2_vits14")
    state = {f"model.{name}": tensor for name, tensor in model.vit.state_dict().items()}
    torch.save({"state_dict": {**state, "rtokens": torch.ones(1, 2, 64)}}, tmp_path / "last.ckpt")
    assert isinstance(load_defense(tmp_path / "last.ckpt"), RobustnessTokens)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vits16", "openclip_vitb32"])
def test_it_starts_as_the_backbone_and_every_weight_learns(name: str, known: Callable[..., Any]) -> None:
    model = known(name)
    size = 3 * model.spec.patch_size
    backbone, images = model.load(image_size=size), model.images(2, size)
    made = FullWeights.create(WeightsConfig(), backbone, seed=0)
    assert torch.equal(made.model(backbone)(images), backbone(images))
    half = model.load(image_size=size).to(torch.bfloat16)
    assert torch.equal(FullWeights.create(WeightsConfig(), half, seed=0).model(half)(images), half(images))

    leaves = {key: value.requires_grad_(True) for key, value in made.parameters().items()}
    made.replaced(leaves).model(backbone)(images).square().mean().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in leaves.values())
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_an_attack_on_it_takes_the_frozen_path(known: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from rtok.models import frozen, own_weights

    model = known("dinov2_vits14")
    backbone, images = model.load(image_size=56), model.images(1, 56).requires_grad_(True)
    products, binds = [], []
    product, resize = frozen.product, own_weights.resample_positions
    monkeypatch.setattr(frozen, "product", lambda *a: products.append(a) or product(*a))
    monkeypatch.setattr(own_weights, "resample_positions", lambda *a, **k: binds.append(a) or resize(*a, **k))
    defended = FullWeights.create(WeightsConfig(), backbone, seed=0).model(backbone)
    for _ in range(3):
        torch.autograd.grad(defended(images).sum(), images)
    # forward and backward, the layers of two blocks; and back to the pixels
    assert len(products) == 3 * (2 * 2 * 4 + 1)
    assert len(binds) == 1


def test_its_file_is_a_state_dict_of_timm(known: Callable[..., Any], tmp_path: Path) -> None:
    model = known("dinov2_vits14")
    made = FullWeights(tuned(model), backbone="dinov2_vits14", version="x")
    made.save(tmp_path / "weights.safetensors")
    vit = timm.create_model(model.spec.timm_name, num_classes=0, **model.spec.timm_kwargs)
    vit.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    read = load_defense(tmp_path / "weights.safetensors")
    assert read.version == "x" and "FullWeights(backbone='dinov2_vits14')" in repr(read)
