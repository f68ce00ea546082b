"""Where adversarial images may lie: a ball around each clean image, the box [0, 1], and the 256 levels of a file."""

from __future__ import annotations

import torch
from torch import Tensor

from rtok.errors import UserError


def pixel_scale(images: Tensor, units: str, std: Tensor | None) -> Tensor:
    """Pixel values per unit, broadcastable to (1, 3, 1, 1).

    Raises:
        UserError: `normalized` units without `std`.
    """
    if units == "pixel":
        return images.new_ones(1, 1, 1, 1)
    if std is None:
        raise UserError("units='normalized' needs the model's std: craft with Context.of(images, std=backbone.std).")
    return std.to(images)


def project(adversarial: Tensor, images: Tensor, norm: str, eps: float, scale: Tensor | float = 1.0) -> Tensor:
    """The nearest images (B, 3, H, W) inside the ball around `images`, of radius `eps * scale`, and inside [0, 1]."""
    delta = adversarial - images
    if norm == "linf":
        radius = torch.as_tensor(eps * scale).to(images)
        delta = torch.minimum(torch.maximum(delta, -radius), radius)
    else:
        length = per_image((delta / scale).flatten(1).norm(dim=1))
        delta = delta * (eps / length.clamp(min=eps))
    return (images + delta).clamp_(0, 1)


def steepest(gradient: Tensor, norm: str, scale: Tensor) -> Tensor:
    """The direction (B, C, H, W) of length one, in the norm and units of a radius, along which a loss rises most."""
    if norm == "linf":
        return gradient.sign()
    gradient = gradient * scale  # chain rule from pixels to units
    length = per_image(gradient.flatten(1).norm(dim=1))
    return gradient / length.clamp(min=torch.finfo(gradient.dtype).tiny)


def distance(adversarial: Tensor, images: Tensor, norm: str, scale: Tensor) -> Tensor:
    """How far each adversarial image lies from its clean one, (B,), in the norm and units of a radius."""
    delta = ((adversarial - images) / scale).flatten(1)
    return delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)


def quantized(images: Tensor, how: str) -> Tensor:
    """Bring images to the 256 levels that a file holds, or leave them."""
    if how == "none":
        return images
    # A value that came from 8 bits can sit a rounding error below its level, and floor must not lose the level.
    levels = (images * 255).round() if how == "round" else (images * 255 + 1e-4).floor()
    return levels.clamp_(0, 255).div_(255)


def per_image(values: Tensor) -> Tensor:
    """Values (B,), broadcastable to images."""
    return values[:, None, None, None]
