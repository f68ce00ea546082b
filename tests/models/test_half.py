"""Gradients with bfloat16 products: near the exact ones, while everything else stays exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F

from rtok.config.defenses import LoRAConfig
from rtok.defenses.lora import LoRA
from rtok.models import half
from rtok.models.frozen import FrozenLinear
from rtok.models.half import exact_gradients, pays, with_half_products
from rtok.models.half_attention import BatchedAttention
from rtok.models.half_layers import HalfLinear

# With a class token, registers, rotary positions, gated and packed MLPs, biases beside the layer, an embedding's head.
MODELS = ["dinov2_vits14_reg", "dinov2_vitg14", "dinov3_vits16", "dinov3_vit7b16", "openclip_vitb16"]


def gradient(model: Callable[[Tensor], Tensor], images: Tensor, target: Tensor) -> Tensor:
    images = images.clone().requires_grad_(True)
    features = model(images)
    assert features.dtype == torch.float32
    return torch.autograd.grad(F.cosine_similarity(features, target, dim=-1).sum(), images)[0]


def likeness(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one.flatten(1), other.flatten(1)).min())


def opened(tiny: Callable[..., Any], name: str) -> tuple[Any, Tensor, Tensor]:
    model = tiny(name)
    side = 4 * model.spec.patch_size
    backbone, images = model.load(image_size=side), model.images(2, side)
    with torch.no_grad():
        return backbone, images, backbone(images.flip(0))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_rounded_and_features_exact(name: str, tiny: Callable[..., Any]) -> None:
    backbone, images, target = opened(tiny, name)
    exact, features = gradient(backbone, images, target), backbone(images)

    backbone.half_gradients = True

    found = gradient(backbone, images, target)
    assert likeness(found, exact) > 0.999 and not torch.equal(found, exact)
    assert torch.equal(backbone(images), features)
    with torch.no_grad():
        assert torch.equal(backbone(images.clone().requires_grad_(True)), features)
    with exact_gradients():
        assert torch.equal(gradient(backbone, images, target), exact)
    assert torch.equal(gradient(backbone, images, target), found)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vit7b16"])
def test_a_defense_inside_is_rounded_too(name: str, tiny: Callable[..., Any]) -> None:
    backbone, images, target = opened(tiny, name)
    drawn = LoRA.create(LoRAConfig(rank=3), backbone, seed=0)
    noise = torch.Generator().manual_seed(5)
    lora = drawn.replaced({k: 0.3 * torch.randn(v.shape, generator=noise) for k, v in drawn.values.items()})
    exact, plain = gradient(lora.model(backbone), images, target), gradient(backbone, images, target)

    backbone.half_gradients = True

    found = gradient(lora.model(backbone), images, target)
    assert likeness(found, exact) > 0.99 and not torch.equal(found, exact)
    assert 1 - likeness(plain, exact) > 3 * (1 - likeness(found, exact))


def test_only_products_are_rounded(tiny: Callable[..., Any]) -> None:
    backbone, _, _ = opened(tiny, "dinov2_vits14")
    half = with_half_products(backbone.vit, torch.device("cpu"))
    layers = [module for module in half.modules() if isinstance(module, HalfLinear)]
    assert len(layers) == 4 * backbone.depth
    assert all(isinstance(block.attn, BatchedAttention) for block in half.blocks)
    assert not any(isinstance(module, LayerScale) for module in half.blocks.modules())
    assert not any(isinstance(module, FrozenLinear) for module in half.blocks.modules())
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert {name.rpartition(".")[2] for name, _ in half.blocks.named_parameters()} == {"weight", "bias"}  # of norms
    # the model that it was made from is as it was
    assert sum(isinstance(module, FrozenLinear) for module in backbone.vit.blocks.modules()) == len(layers)
    assert all(block.attn.fused_attn for block in backbone.vit.blocks)
    assert all(isinstance(block.ls2, LayerScale) for block in backbone.vit.blocks)


def test_scales_of_branches_count(tiny: Callable[..., Any]) -> None:
    backbone, images, target = opened(tiny, "dinov2_vits14")
    with torch.no_grad():
        for block in backbone.vit.blocks:
            for scale in (block.ls1.gamma, block.ls2.gamma):
                scale.copy_(torch.linspace(-0.5, 2, len(scale)))
    exact = gradient(backbone, images, target)
    backbone.half_gradients = True
    assert likeness(gradient(backbone, images, target), exact) > 0.999


def test_a_scale_that_is_trained_stays(tiny: Callable[..., Any]) -> None:
    backbone, images, _ = opened(tiny, "dinov2_vits14")
    backbone.half_gradients = True
    gamma = backbone.vit.blocks[0].ls1.gamma.requires_grad_(True)
    backbone(images.requires_grad_(True)).sum().backward()
    assert gamma.grad is not None and gamma.grad.abs().max() > 0


def test_weights_of_another_type_or_device_are_halved_again(tiny: Callable[..., Any]) -> None:
    backbone, images, target = opened(tiny, "dinov2_vits14")
    backbone.half_gradients = True
    before = gradient(backbone, images, target)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(parameter.roll(1, 0))
    backbone.to(torch.float32)
    assert likeness(gradient(backbone, images, target), before) < 0.99


def test_layers_that_are_trained_stay_exact() -> None:
    block = nn.Sequential(nn.Linear(4, 4), FrozenLinear(4, 4).requires_grad_(False))
    vit = nn.Module()
    vit.blocks = nn.Sequential(block)
    vit.patch_embed, vit.num_prefix_tokens = type("", (), {"num_patches": 4}), 1
    trained, frozen = with_half_products(vit, torch.device("cpu")).blocks[0]
    assert trained is block[0]
    assert isinstance(frozen, HalfLinear)


@pytest.mark.parametrize(
    ("amx", "avx512", "intels", "expected"),
    [
        (True, True, True, True),
        (False, True, True, False),
        (False, True, False, True),
        (False, False, False, False),
        (None, None, False, False),
    ],
)
def test_it_pays_where_the_processor_says_so(
    amx: bool | None, avx512: bool | None, intels: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, has in (("_is_amx_tile_supported", amx), ("_is_avx512_bf16_supported", avx512)):
        if has is None:
            monkeypatch.delattr(torch.cpu, name, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, name, lambda has=has: has, raising=False)
    monkeypatch.setattr(half, "is_intels", lambda: intels)
    assert pays(torch.device("cpu")) == expected


def test_who_made_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nvendor_id\t: GenuineIntel\n")
    (tmp_path / "other").write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\n")
    assert half.is_intels(tmp_path / "cpuinfo") and not half.is_intels(tmp_path / "other")
    monkeypatch.setattr(half.platform, "processor", lambda: "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel")
    assert half.is_intels(tmp_path / "missing")


@pytest.mark.parametrize("name", ["dinov2_vits14_reg", "dinov2_vitg14", "dinov3_vits16", "openclip_vitb16"])
def test_attention_on_a_gpu_is_fused_in_bfloat16(
    name: str, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU would run, run here: the gradients of `precision: auto`, and the backbone of `bf16`."""
    backbone, images, target = opened(tiny, name)
    backbone._halves[backbone.vit] = with_half_products(backbone.vit, torch.device("cuda"))
    fused, found = F.scaled_dot_product_attention, []

    def attention(query: Tensor, key: Tensor, value: Tensor, *mask: None, **options: Any) -> Tensor:
        found.append(({query.dtype, key.dtype, value.dtype}, *mask, options.get("attn_mask")))
        return fused(query, key, value, *mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    for prepare in (lambda: setattr(backbone, "half_gradients", True), lambda: backbone.to(torch.bfloat16)):
        prepare()
        found.clear()
        gradient(backbone, images, target)
        assert found == [({torch.bfloat16}, None)] * backbone.depth
        backbone.half_gradients = False
