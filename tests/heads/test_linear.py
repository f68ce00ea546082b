"""Head outputs equal a direct computation in every layout, with and without tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.errors import UserError
from rtok.heads.linear import LAYOUTS, PROBE, WIDEST, Layout, LinearHead, check_classes, layout_of
from tests.masked import defended


def direct(vit: Any, images: Tensor, tokens: Tensor | None, blocks: int, average: bool) -> Tensor:
    """DINOv2's linear input, block by block on timm's own model, the tokens right after the prefix."""
    prefix, n = vit.num_prefix_tokens, 0 if tokens is None else tokens.shape[1]
    sequence = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    if tokens is not None:
        sequence = torch.cat([sequence[:, :prefix], tokens.expand(len(images), -1, -1), sequence[:, prefix:]], 1)
    cls = []
    for block in vit.blocks:
        sequence = block(sequence)
        cls.append(vit.norm(sequence)[:, 0])
    parts = cls[-blocks:]
    if average:
        parts.append(vit.norm(sequence)[:, prefix + n :].mean(1))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
@pytest.mark.parametrize("extra", [0, 3])
def test_logits_equal_a_direct_computation(tiny: Callable[..., Any], layout: Layout, name: str, extra: int) -> None:
    model = tiny(name, depth=5)
    backbone, images = model.load(), model.images()
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(1, extra, 64, generator=generator) if extra else None
    width = layout.width(backbone)
    weight = torch.randn(7, width, generator=generator)
    bias = torch.randn(7, generator=generator)
    logits = LinearHead(weight, bias, layout_of(width, backbone, "head"))(defended(backbone, tokens), images)
    inputs = direct(model.vit, (images - backbone.mean) / backbone.std, tokens, layout.blocks, layout.average)
    assert inputs.shape == (2, width)
    torch.testing.assert_close(logits, inputs @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_timm_agrees_on_the_layout(tiny: Callable[..., Any]) -> None:
    model = tiny("dinov2_vits14_reg", depth=5)
    backbone, images = model.load(), model.images()
    normalized = (images - backbone.mean) / backbone.std
    layers = model.vit.get_intermediate_layers(normalized, n=4, norm=True, return_prefix_tokens=True)
    expected = torch.cat([*(prefix[:, 0] for _, prefix in layers), layers[-1][0].mean(1)], 1)
    torch.testing.assert_close(WIDEST.inputs(backbone, images), expected, rtol=1e-5, atol=1e-5)


def test_every_layout_is_a_part_of_the_widest(tiny: Callable[..., Any]) -> None:
    model = tiny("dinov2_vits14", depth=5)
    backbone, images = model.load(), model.images()
    widest = WIDEST.inputs(backbone, images)
    for layout in LAYOUTS:
        torch.testing.assert_close(layout.select(widest), layout.inputs(backbone, images))


def test_an_embedding_is_read_as_it_is(tiny: Callable[..., Any]) -> None:
    model = tiny("openclip_vitb32")
    backbone, images = model.load(), model.images()
    embedding = backbone(images)
    assert PROBE.width(backbone) == embedding.shape[1]
    assert torch.equal(PROBE.inputs(backbone, images), embedding)


def test_a_width_that_is_not_the_backbones(tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov2_vits14").load()
    with pytest.raises(UserError, match=r"h.pth .* width 96, but dinov2_vits14 gives 64 or 128 or 256 or 320"):
        layout_of(96, backbone, "h.pth")


def test_another_number_of_classes() -> None:
    head = LinearHead(torch.zeros(1000, 4), torch.zeros(1000))
    check_classes(head, 1000, "h.pth")
    with pytest.raises(UserError, match=r"h.pth has 1000 classes, but the data has 10"):
        check_classes(head, 10, "h.pth")
