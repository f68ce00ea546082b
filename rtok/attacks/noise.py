"""Noise that belongs to an image: drawn on the CPU from (seed, key, ...), so no batch, process or device changes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rtok.seeding import image_seed

# The standard deviation of the Gaussian start in the attack's units, as in the original code.
GAUSSIAN_START = 1e-2


def generator(seed: int, key: str, *parts: object) -> torch.Generator:
    """A CPU generator for one purpose (`parts`) of one image."""
    return torch.Generator().manual_seed(image_seed(seed, key, *parts))


def start_noise(
    init: str, norm: str, eps: float, shape: torch.Size, keys: Sequence[str], seed: int, *parts: object
) -> Tensor:
    """Where an attack starts, relative to the clean image and in the attack's units: (B, C, H, W) float32 on the CPU.

    Args:
        init: `none` (zero), `gaussian` (`GAUSSIAN_START` * N(0, 1)) or `uniform` in the ball of radius `eps`.
        shape: (B, C, H, W); `keys` names the B images; `parts` tells starts apart (restart, visit).
    """
    B, *image = shape
    if init == "none":
        return torch.zeros(shape)
    noise = torch.empty(shape)
    for b in range(B):
        g = generator(seed, keys[b], "start", *parts)
        if init == "gaussian":
            noise[b] = GAUSSIAN_START * torch.randn(image, generator=g)
        elif norm == "linf":
            noise[b] = eps * (2 * torch.rand(image, generator=g) - 1)
        else:
            # Uniform in an L2 ball of dimension d: a uniform direction at a radius distributed as u^(1/d).
            direction = torch.randn(image, generator=g)
            radius = torch.rand((), generator=g) ** (1 / direction.numel())
            noise[b] = eps * radius * direction / direction.norm()
    return noise
