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
        return linear(input, self.weight, self.bias)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `F.linear`, through oneDNN where `FrozenLinear` says so."""
    if input.requires_grad and not weight.requires_grad and _through_onednn(input):
        output: Tensor = _OneDNNLinear.apply(input, weight, bias)
        return output
    return F.linear(input, weight, bias)


def product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `F.linear` without a graph, on a CPU computed with oneDNN: for the inside of an autograd function."""
    if _through_onednn(input):
        # the operator that torch.compile uses for a linear layer on the CPU
        output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
        return output
    return F.linear(input, weight, bias)


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
        return product(input, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return product(gradient, weight.t(), None), None, None
