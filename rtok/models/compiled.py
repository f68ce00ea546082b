"""A backbone's forward pass compiled by torch, which meets few batch sizes, since each one is compiled by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Mode = Literal["default", "reduce-overhead", "max-autotune"]

# On a GPU these modes of torch.compile replay CUDA graphs, whose results lie where the next replay writes.
_REPLAYED = ("reduce-overhead", "max-autotune")
# How many variants of one forward pass torch may compile before it gives up: sizes (`Sizes`, of a batch, its halves and
# twice as many), with and without a gradient, per kind of entry. Torch's own limit is 8.
VARIANTS = 64


class Sizes:
    """The batch sizes that a model has met, and which of them a new batch is filled up to."""

    def __init__(self) -> None:
        self.met: set[int] = set()

    def filled(self, batch: int) -> int:
        """Return the smallest size that was met and holds `batch` images, of which they fill a half at least.

        Without one the batch stays as it is, and its size has been met. So the last batch of a data set and the halves
        of one get no size of their own, an attack that drops images gets a few, and the waste is bounded.
        """
        fitting = [size for size in self.met if batch <= size <= 2 * batch]
        if not fitting:
            self.met.add(batch)
        return min(fitting, default=batch)


class Compiled:
    """`function(images, entry)`, compiled, with results (B, ...) that nothing overwrites.

    A batch is filled up with black images to a size in `sizes`; what is computed of those is dropped here. An image's
    result is therefore that of the same kernels in a full batch and in the last one.
    """

    def __init__(self, function: Callable[..., Tensor], mode: Mode) -> None:
        from torch._dynamo import config

        config.cache_size_limit = max(config.cache_size_limit, VARIANTS)
        self.sizes = Sizes()
        self._replayed = mode in _REPLAYED
        self._function = torch.compile(function, mode=mode, dynamic=False)

    def __call__(self, images: Tensor, entry: Any = None) -> Tensor:
        """Return what the function does."""
        B = len(images)
        missing = self.sizes.filled(B) - B
        if missing:
            images = F.pad(images, (0, 0) * (images.ndim - 1) + (0, missing))
        if self._replayed:
            images = _Kept.apply(images)
        output: Tensor = self._function(images, entry)
        if self._replayed:
            output = _Kept.apply(output)
        return output[:B] if missing else output

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of the model is not compiled: this belongs to the one that it was made from."""
        return None


class _Kept(torch.autograd.Function):
    """The identity, whose result and gradient are copies."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()
