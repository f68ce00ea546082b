"""Attention by batched products against timm's, in full precision."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Attention
from torch import Tensor, nn

from rtok.models.half_attention import BatchedAttention


def output_and_gradient(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_(True)
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    return y.detach(), torch.autograd.grad((y * weights).sum(), x)[0]


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_attention_of_timm(bias: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(24, num_heads=3, qkv_bias=bias).eval()
    assert BatchedAttention.fits(attention)
    x = torch.randn(2, 7, 24)
    found, expected = output_and_gradient(BatchedAttention(attention), x), output_and_gradient(attention, x)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


def test_others_do_not_fit() -> None:
    class Changed(Attention):
        pass

    norm = nn.LayerNorm
    others = [
        Changed(24, 3),
        Attention(24, 3, qk_norm=True, norm_layer=norm),
        Attention(24, 3, scale_norm=True, norm_layer=norm),
        Attention(24, 3, gated=True),
    ]
    assert not any(BatchedAttention.fits(other) for other in others)


def test_masks_are_refused() -> None:
    layer = BatchedAttention(Attention(24, 3))
    with pytest.raises(ValueError, match="no mask"):
        layer(torch.zeros(1, 2, 24), is_causal=True)
