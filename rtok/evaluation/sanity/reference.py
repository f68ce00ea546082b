"""Plain gradient ascent, written once more: what it finds does not depend on the code of the attack that is checked."""

from __future__ import annotations

import torch
from torch import Tensor

from rtok.activity import rounds
from rtok.attacks.ball import pixel_scale, quantized
from rtok.attacks.objective import Objective, Step
from rtok.config.attack import AttackConfig


def go_on(
    objective: Objective, images: Tensor, start: Tensor, settings: AttackConfig, std: Tensor | None, steps: int
) -> Tensor:
    """Go on from an attack's result `start` (B, 3, H, W), in its ball, by steps of a quarter of its radius.

    Returns:
        Per image the one on the way with the largest objective, quantized as the attack's result.
    """
    scale = pixel_scale(images, settings.units, std)
    eps, linf = settings.eps, settings.norm == "linf"

    def length(vectors: Tensor) -> Tensor:
        return vectors.flatten(1).norm(dim=1)[:, None, None, None].clamp(min=torch.finfo(vectors.dtype).tiny)

    def inside(delta: Tensor) -> Tensor:
        """Bring a change in the attack's units into the ball, and the image into [0, 1]."""
        delta = delta.clamp(-eps, eps) if linf else delta * (eps / length(delta)).clamp(max=1)
        return (images + delta * scale).clamp(0, 1)

    place = best = inside((start - images) / scale)
    best_loss = images.new_full((len(images),), -torch.inf)
    for k in rounds(range(steps + 1), "step"):
        loss, gradient = objective.loss_and_gradient(place, Step(0, k))
        better = loss > best_loss
        best = torch.where(better[:, None, None, None], place, best)
        best_loss = torch.where(better, loss, best_loss)
        direction = gradient.sign() if linf else gradient * scale / length(gradient * scale)
        place = inside((place - images) / scale + eps / 4 * direction)
    return quantized(best, settings.quantize)
