"""Gradients for attacks with bfloat16 products: two to three times as fast on processors that have such instructions.

Only the matrix products of the blocks are rounded. Pixels, the patch embedding, the sequence between blocks and every
norm stay in float32: an attack moves a pixel by less than bfloat16 can tell, and DINOv2 hides small changes behind a
few massive activations. (With the whole model in bfloat16, 15 steps of PGD at the paper's radius left a DINOv2 ViT-S/14
a cosine of 0.487 instead of 0.395, n = 16; with the products alone 0.397.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from timm.layers import LayerScale
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from rtok.models.altered import with_bias_inside, with_modules
from rtok.models.half_attention import BatchedAttention
from rtok.models.low_rank import ChangedLinear

# Up to so many tokens, attention by three batched products is faster on a CPU than the fused kernel (at 257 by a
# quarter of a PGD step); what it keeps for the backward pass grows with the square.
LONGEST_UNFUSED = 600

# Where a block of timm scales the output of a branch, and the branch's last layer.
_SCALED = (("ls1", "attn", "proj"), ("ls2", "mlp", "fc2"))

_exact: ContextVar[bool] = ContextVar("exact", default=False)


def pays(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices by instructions of its own."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Names that a future torch may not have; without them nothing is claimed.
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and any(ask() for ask in asked if ask)


@contextmanager
def exact_gradients() -> Iterator[None]:
    """Take gradients in full precision here, whatever the run's precision: for checks that the gradient is right."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def gradients_are_exact() -> bool:
    """Whether gradients are taken in full precision here, whatever the run's precision."""
    return _exact.get()


def asks_for_gradient(images: Tensor) -> bool:
    """Whether a pass is a step of an attack: it takes the gradient with respect to the images."""
    return images.requires_grad and torch.is_grad_enabled() and not gradients_are_exact()


def with_half_products(vit: Any, device: torch.device) -> Any:
    """Return a ViT of timm with the products of its blocks in bfloat16; it shares all else with the given one."""
    tokens = vit.patch_embed.num_patches + vit.num_prefix_tokens
    unfused = device.type == "cpu" and tokens <= LONGEST_UNFUSED
    return with_modules(vit, {"blocks": _halved(vit.blocks, unfused=unfused)})


class HalfLinear(nn.Module):
    """A frozen linear layer that multiplies in bfloat16.

    Args:
        scale: (out_features,) what its outputs are multiplied with; None means nothing.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None) -> None:
        super().__init__()
        if scale is not None:
            weight, bias = scale[:, None] * weight, None if bias is None else scale * bias
        self.weight = weight.detach().to(torch.bfloat16)
        self.bias = None if bias is None else bias.detach().to(torch.bfloat16)

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) of any type to (..., out_features) in bfloat16."""
        return F.linear(input.to(torch.bfloat16), self.weight, self.bias)


def _halved(module: nn.Module, *, unfused: bool) -> nn.Module:
    """Return a copy whose linear layers are halved; those whose parameters are trained stay as they are."""
    if isinstance(module, nn.Linear) or (isinstance(module, ChangedLinear) and module.factors is None):
        return module if module.weight.requires_grad else HalfLinear(module.weight, module.bias)
    own: Any = with_modules(module, {name: _halved(inner, unfused=unfused) for name, inner in module.named_children()})
    if unfused and BatchedAttention.fits(own):
        return BatchedAttention(own)
    if unfused and hasattr(own, "fused_attn"):
        own.fused_attn = False
    _scale_inside(own, module)
    return with_bias_inside(own)


def _scale_inside(own: Any, block: Any) -> None:
    """Multiply timm's `LayerScale` of the branches of `block` into the last layers of its halved copy."""
    for name, branch, last in _SCALED if type(block) is Block else ():
        scale, exact = getattr(block, name), getattr(getattr(block, branch), last, None)
        if exact is None or not isinstance(scale, LayerScale) or scale.gamma.requires_grad:
            continue
        if isinstance(getattr(getattr(own, branch), last), HalfLinear):
            setattr(getattr(own, branch), last, HalfLinear(exact.weight, exact.bias, scale.gamma))
            setattr(own, name, nn.Identity())
