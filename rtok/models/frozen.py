"""Linear layers with frozen weights: the same function, faster when only the input needs a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenLinear(nn.Linear):
    """`nn.Linear` that computes its matrix products with oneDNN, on a CPU and when its input needs a gradient.

    PyTorch uses MKL for float32 products. On CPUs that are not Intel's, it is up to 30 % slower than oneDNN at these
    shapes, and products are three quarters of a PGD step (`make bench`). Without a gradient, in another dtype, on
    another device and in a compiled model it is `nn.Linear`, bit for bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if input.requires_grad and not self.weight.requires_grad and _through_onednn(input):
            return _OneDNNLinear.apply(input, self.weight, self.bias)
        return F.linear(input, self.weight, self.bias)


def freeze_linears(module: nn.Module) -> None:
    """Replace every plain `nn.Linear` inside `module` with a `FrozenLinear` that has the same parameters."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            frozen = FrozenLinear(child.in_features, child.out_features, child.bias is not None, device="meta")
            frozen.weight, frozen.bias = child.weight, child.bias
            setattr(module, name, frozen.train(child.training))
        else:
            freeze_linears(child)


def _through_onednn(input: Tensor) -> bool:
    if torch.compiler.is_compiling():  # first, because the rest cannot be traced
        return False
    return input.device.type == "cpu" and input.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(input, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _product(gradient, weight.t(), None), None, None


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # the operator that torch.compile uses for a linear layer on the CPU
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product
