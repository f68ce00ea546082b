"""The layers of a model whose blocks multiply in bfloat16 (`rtok.models.half`)."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import LayerScale
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rtok.models.altered import with_bias_inside, with_modules
from rtok.models.frozen import linear
from rtok.models.half_attention import BatchedAttention
from rtok.models.low_rank import ChangedLinear

# Where a block of timm scales the output of a branch, and the branch's last layer.
_SCALED = (("ls1", "attn", "proj"), ("ls2", "mlp", "fc2"))


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
        return linear(input.to(torch.bfloat16), self.weight, self.bias)


def halved(module: nn.Module, *, unfused: bool) -> nn.Module:
    """Return a copy whose linear layers are halved; those whose parameters are trained stay as they are."""
    if isinstance(module, nn.Linear) or (isinstance(module, ChangedLinear) and module.factors is None):
        return module if module.weight.requires_grad else HalfLinear(module.weight, module.bias)
    own: Any = with_modules(module, {name: halved(inner, unfused=unfused) for name, inner in module.named_children()})
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
