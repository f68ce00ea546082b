"""Layers with frozen weights: the same function, faster, and with the same bits for an image in any batch."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What torch's private operator for a product through oneDNN takes, as of torch 2.14.
SCHEMA = (
    "mkldnn::_linear_pointwise(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm) -> Tensor Y"
)


class FrozenLinear(nn.Linear):
    """`nn.Linear` that computes its matrix products with oneDNN, on a CPU in float32 and, where it can, bfloat16.

    PyTorch uses MKL for these products. MKL adds up in an order that depends on the number of rows and of threads, so
    an image's features would depend in their last bits on its batch and on how many processes share the machine, and
    a hundred steps of an attack make another adversarial image of that. oneDNN's order is the same from two rows on; a
    single row is computed twice. MKL is also up to 30 % slower at these shapes on CPUs that are not Intel's, and
    products are three quarters of a PGD step (`make bench`). In bfloat16, PyTorch copies the bias into the result
    before it multiplies, which takes a fifth of the product's time. In another dtype, on another device, in a compiled
    model and with a weight that learns it is `nn.Linear`, bit for bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return linear(input, self.weight, self.bias)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `F.linear`, through oneDNN where `FrozenLinear` says so."""
    if weight.requires_grad or not _through_onednn(input):
        return F.linear(input, weight, bias)
    if not input.requires_grad:
        return onednn_product(input, weight, bias)
    output: Tensor = _OneDNNLinear.apply(input, weight, bias)
    return output


def product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `F.linear` without a graph, on a CPU computed with oneDNN: for the inside of an autograd function."""
    return onednn_product(input, weight, bias) if _through_onednn(input) else F.linear(input, weight, bias)


def onednn_product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `F.linear` of (..., in) CPU tensors without a graph, through oneDNN where this torch lets it be chosen.

    The operator is the one that torch.compile uses for a linear layer on the CPU. It is private, so that a new torch
    may lack it or give it other arguments: then this is `F.linear`, the same function, as fast as torch makes it.
    """
    operator = _operator()
    if operator is None:
        return F.linear(input, weight, bias)
    if input.numel() == input.shape[-1]:  # a single row, which has a kernel of its own
        row = input.reshape(1, -1)
        return onednn_product(torch.cat([row, row]), weight, bias)[0].view(*input.shape[:-1], -1)
    output: Tensor = operator(input, weight, bias, "none", [], "")
    return output


@cache
def _operator() -> Any | None:
    """The private operator, if it is there and takes the arguments that it is known to take."""
    operator = getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)
    known = operator is not None and str(operator._schema) == SCHEMA
    return operator if known and torch.backends.mkldnn.is_available() else None


class FrozenPatches(nn.Conv2d):
    """The convolution that embeds patches, whose stride is its kernel: no pixel is in two of them.

    So the gradient of the pixels is one matrix product, which on a CPU takes a fifth of the time of the convolution's
    own (11 ms instead of 54 for 8 images of 224 px and patches of 14, one thread). Forward it is `nn.Conv2d`, bit for
    bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, D, rows, columns) of patches."""
        if input.requires_grad and not self.weight.requires_grad and not torch.compiler.is_compiling():
            output: Tensor = _Patches.apply(input, self.weight, self.bias)
            return output
        return super().forward(input)


def freeze(module: nn.Module) -> None:
    """Turn every plain `nn.Linear`, and convolution that embeds patches, inside `module` into its frozen twin."""
    for layer in module.modules():
        # The twins have no state of their own, so parameters, names and hooks stay.
        if type(layer) is nn.Linear:
            layer.__class__ = FrozenLinear
        elif type(layer) is nn.Conv2d and _embeds_patches(layer):
            layer.__class__ = FrozenPatches


def _embeds_patches(layer: nn.Conv2d) -> bool:
    plain = layer.padding == (0, 0) and layer.dilation == (1, 1) and layer.groups == 1
    return plain and layer.kernel_size == layer.stride


def _through_onednn(input: Tensor) -> bool:
    if torch.compiler.is_compiling():  # first, because the rest cannot be traced
        return False
    if input.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return input.dtype == torch.float32 or (input.dtype == torch.bfloat16 and _multiplies_bfloat16())


@cache
def _multiplies_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 here, as torch asks it."""
    return answers_yes(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")


def answers_yes(owner: Any, question: str) -> bool:
    """Ask torch by a private name that a future torch may not have; without it nothing is claimed."""
    ask = getattr(owner, question, None)
    return ask is not None and bool(ask())


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


class _Patches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape = images.shape
        return F.conv2d(images, weight, bias, stride=(weight.shape[2], weight.shape[3]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        (B, C, H, W), (p, q) = ctx.shape, weight.shape[2:]
        rows, columns = gradient.shape[2:]
        pixels = product(gradient.flatten(2).transpose(1, 2), weight.flatten(1).t(), None)
        inside = pixels.view(B, rows, columns, C, p, q).permute(0, 3, 1, 4, 2, 5).reshape(B, C, rows * p, columns * q)
        # Pixels beyond the last whole patch are in none.
        return F.pad(inside, (0, W - columns * q, 0, H - rows * p)), None, None
