"""Low-rank changes: merged or trained, they are the layers' weights plus B A."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rtok.config.defenses import LoRAConfig
from rtok.defenses.lora import LoRA
from rtok.errors import UserError
from rtok.models.low_rank import LowRankChanges, target_layers

MODELS = ["dinov2_vits14", "dinov2_vitg14", "dinov3_vits16", "dinov3_vits16plus", "dinov3_vit7b16"]


def changed(backbone: Any, **settings: Any) -> LoRA:
    """A LoRA that does something."""
    lora = LoRA.create(LoRAConfig(rank=3, alpha=6, **settings), backbone, seed=0)
    generator = torch.Generator().manual_seed(5)
    noise = {name: 0.1 * torch.randn(values.shape, generator=generator) for name, values in lora.values.items()}
    return lora.replaced(noise)


def by_hand(backbone: Any, lora: LoRA) -> Any:
    """The same model with the changes added to a copy's weights, as anybody would merge them."""
    other = copy.deepcopy(backbone)
    for k, index in enumerate(lora.blocks):
        for name, module in other.vit.blocks[index].named_modules():
            layer = name.rpartition(".")[2]
            if f"{layer}_A" in lora.values:
                module.weight.data += 2 * lora.values[f"{layer}_B"][k] @ lora.values[f"{layer}_A"][k]
    return other


@pytest.mark.parametrize("name", MODELS)
def test_merged_or_trained_it_is_the_sum(name: str, tiny: Callable[..., Any]) -> None:
    model = tiny(name)
    backbone, images = model.load(image_size=4 * model.spec.patch_size), model.images(2, 4 * model.spec.patch_size)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    lora = changed(backbone)
    expected = by_hand(backbone, lora)(images)
    bar = 1e-5 * float(expected.abs().max().clamp(min=1))
    assert (expected - backbone(images)).abs().max() > 100 * bar
    leaves = {key: value.clone().requires_grad_(True) for key, value in lora.values.items()}
    trained = lora.replaced(leaves).model(backbone)(images)
    for found in (lora.model(backbone)(images), trained, backbone(images, lora.entry())):
        assert (found - expected).abs().max() < bar
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())

    trained.square().mean().backward()
    assert all(parameter.grad is None for parameter in backbone.parameters())
    for key, gradient in gradients_by_hand(backbone, lora, images).items():
        torch.testing.assert_close(leaves[key].grad, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))


def gradients_by_hand(backbone: Any, lora: LoRA, images: Tensor) -> dict[str, Tensor]:
    """The chain rule from the gradient of every merged weight, which training never computes."""
    other = by_hand(backbone, lora).requires_grad_(True)
    other(images).square().mean().backward()
    found: dict[str, Tensor] = {}
    for layer in lora.layers:
        paths = [name for name, _ in other.vit.blocks[0].named_modules() if name.rpartition(".")[2] == layer]
        weight = torch.stack([other.vit.blocks[index].get_submodule(paths[0]).weight.grad for index in lora.blocks])
        found[f"{layer}_A"] = 2 * lora.values[f"{layer}_B"].mT @ weight
        found[f"{layer}_B"] = 2 * weight @ lora.values[f"{layer}_A"].mT
    return found


def test_it_starts_as_the_backbone(tiny: Callable[..., Any]) -> None:
    model = tiny("dinov2_vits14")
    backbone, images = model.load(image_size=56), model.images(2, 56)
    lora = LoRA.create(LoRAConfig(), backbone, seed=0)
    assert (lora.model(backbone)(images) - backbone(images)).abs().max() <= 1e-6
    again = lora.untrained(backbone, 0, "extracted", 3)
    assert (again.model(backbone)(images) - backbone(images)).abs().max() <= 1e-6
    assert again.values["qkv_A"].std() > 0.05 and not torch.equal(again.values["qkv_A"], lora.values["qkv_A"])
    assert not any(values.any() for name, values in again.values.items() if name.endswith("_B"))


def test_the_weights_of_a_chosen_block_alone_change(tiny: Callable[..., Any]) -> None:
    model = tiny("dinov2_vits14")
    backbone, images = model.load(image_size=56), model.images(1, 56)
    lora = changed(backbone, blocks=[1], targets=["fc1"])
    assert lora.model(backbone).intermediate(images, [0])[0].equal(backbone.intermediate(images, [0])[0])
    assert not torch.allclose(lora.model(backbone)(images), backbone(images), atol=1e-3)
    assert [tuple(values.shape) for values in lora.values.values()] == [(1, 3, 64), (1, 256, 3)]


def test_an_attack_never_merges_twice(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from rtok.models import low_rank

    model = tiny("dinov2_vits14")
    backbone, images = model.load(image_size=56), model.images(1, 56).requires_grad_(True)
    merges, merged = [], low_rank.merged
    monkeypatch.setattr(low_rank, "merged", lambda *a: merges.append(a) or merged(*a))
    defended = changed(backbone).model(backbone)
    for _ in range(3):
        torch.autograd.grad(defended(images).sum(), images)
    assert len(merges) == 2 * 4  # the layers of two blocks


def test_half_precision_keeps_the_models_type(tiny: Callable[..., Any]) -> None:
    model = tiny("dinov2_vits14")
    backbone, images = model.load(image_size=56), model.images(1, 56)
    lora = changed(backbone)
    exact = lora.model(backbone)(images)
    half = backbone.to(torch.bfloat16)
    leaves = {key: value.clone().requires_grad_(True) for key, value in lora.values.items()}
    found = lora.replaced(leaves).model(half)(images)
    assert torch.cosine_similarity(found, exact, dim=-1).min() > 0.99
    found.sum().backward()
    assert all(leaf.grad is not None and leaf.grad.dtype == torch.float32 for leaf in leaves.values())


def test_what_the_model_lacks_is_refused(tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=56)
    with pytest.raises(UserError, match=r"no linear layer 'fc2' \(mlp.fc2\): leave it out of `targets`.*attn.qkv"):
        target_layers(nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(2, 2)})}), "fc2")
    with pytest.raises(UserError, match="names block 2, but 'dinov2_vits14' has 2, from 0 to 1"):
        LoRA.create(LoRAConfig(blocks=[2]), backbone, seed=0)
    with pytest.raises(UserError, match="for another width"):
        LowRankChanges({0: {"attn.qkv": (torch.zeros(2, 8), torch.zeros(192, 2))}}, 1.0).bind(backbone.vit)
    with pytest.raises(UserError, match=r"for 4 blocks or more, not for 2"):
        LowRankChanges({3: {}}, 1.0).bind(backbone.vit)
