"""Self-attention for gradients of attacks on a CPU: batched products with little copying between them."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention
from torch import Tensor, nn


class BatchedAttention(nn.Module):
    """timm's `Attention`, without masks, by batched products.

    Queries, keys and values are laid out once, forward and backward; the scale goes into the products.

    Args:
        attention: one that `fits`; its layers are shared.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads: int = attention.num_heads
        self.scale: float = attention.scale

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is timm's `Attention` with nothing between its products but the softmax."""
        if type(module) is not Attention or module.gate is not None:
            return False
        return all(isinstance(norm, nn.Identity) for norm in (module.q_norm, module.k_norm, module.norm))

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Map (B, N, D) to (B, N, D).

        Raises:
            ValueError: a mask is asked for, which no backbone does.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("attention by batched products takes no mask")
        mixed: Tensor = _Attend.apply(self.qkv(x), self.heads, self.scale)
        output: Tensor = self.proj(mixed)
        return output


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, scale: float) -> Tensor:
        B, N, _ = qkv.shape
        laid_out = qkv.view(B, N, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = laid_out.flatten(1, 2)
        weights = _scaled_product(q, k.transpose(1, 2), scale).softmax(-1)
        ctx.save_for_backward(laid_out, weights)
        ctx.scale = scale
        return (weights @ v).view(B, heads, N, -1).transpose(1, 2).reshape(B, N, -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        laid_out, weights = ctx.saved_tensors
        _, B, heads, N, width = laid_out.shape
        q, k, v = laid_out.flatten(1, 2)
        g = gradient.view(B, N, heads, width).transpose(1, 2).reshape(B * heads, N, width)
        to_weights = g @ v.transpose(1, 2)
        to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        found = torch.empty_like(laid_out)  # each product writes its part, so that nothing is put together afterwards
        to_q, to_k, to_v = found.flatten(1, 2)
        _scaled_product(to_scores, k, ctx.scale, out=to_q)
        _scaled_product(to_scores.transpose(1, 2), q, ctx.scale, out=to_k)
        torch.bmm(weights.transpose(1, 2), g, out=to_v)
        return found.permute(1, 3, 0, 2, 4).reshape(B, N, -1), None, None


def _scaled_product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """Return scale * a @ b of batches, scaled inside of the product."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale, out=out)
