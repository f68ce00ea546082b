"""What a model may be given: floating-point images (B, 3, H, W) in [0, 1]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rtok.errors import UserError


def check_shape(images: Any, size: tuple[int, int] | None = None) -> None:
    """Refuse what is not a batch of color images (B, 3, H, W), of this size (height, width) if one is given.

    Looks at no value: it costs nothing on any device, and holds while tracing.

    Raises:
        UserError: saying what was given and what is valid.
    """
    if not isinstance(images, Tensor):
        raise UserError(f"images are a {type(images).__name__}: give a torch tensor (B, 3, H, W).")
    height, width = images.shape[-2:] if size is None else size
    if images.ndim != 4 or images.shape[1:] != (3, height, width):
        valid = "H, W" if size is None else f"{height}, {width}"
        hint = {2: "", 3: " One image needs a batch axis: images[None]."}.get(images.ndim, "")
        raise UserError(f"images have the shape {tuple(images.shape)}; valid: (B, 3, {valid}).{hint}")
    if not images.is_floating_point():
        raise UserError(f"images are of type {images.dtype}; valid: floating-point values in [0, 1] (images / 255).")


def check_range(images: Tensor) -> None:
    """Refuse values outside [0, 1], and NaN. Waits for the device.

    Raises:
        UserError: naming the smallest and the largest value.
    """
    low, high = (float(bound) for bound in torch.aminmax(images.detach())) if images.numel() else (0.0, 1.0)
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"images hold values from {low:g} to {high:g}; they must lie in [0, 1]. Divide 8-bit values by 255, and "
            "leave the normalization to the model."
        )
