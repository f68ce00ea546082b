"""Resize a trained grid of positions, as each family's own code does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.models.spec import Resampling


def resample_positions(
    positions: Tensor, old: tuple[int, int], new: tuple[int, int], recipe: Resampling, *, prefix: int
) -> Tensor:
    """Resample position embeddings (1, prefix + h*w, D) from the grid `old` to the grid `new`, both (h, w).

    The first `prefix` positions belong to the class token (and registers) and do not change, nor does a grid that
    already has the new size. With DINOv2's offset the factor is (new + offset) / old: it shifts the sampled points, as
    in DINOv2's own code for models without registers.
    """
    if old == new:
        return positions
    head, grid = positions[:, :prefix], positions[:, prefix:]
    image = grid.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    if recipe.offset:
        factors = [(to + recipe.offset) / at for to, at in zip(new, old, strict=True)]
        image = F.interpolate(image, scale_factor=factors, mode="bicubic", antialias=recipe.antialias)
    else:
        image = F.interpolate(image, size=new, mode="bicubic", antialias=recipe.antialias)
    resampled = image.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)
    return torch.cat([head, resampled.to(positions.dtype)], dim=1)
