"""What attacks that follow gradients share: where they start, and which of all that they found is the strongest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rtok.activity import rounds
from rtok.attacks.ball import per_image, pixel_scale, quantized
from rtok.attacks.base import Context, Perturbed
from rtok.attacks.noise import start_noise
from rtok.attacks.objective import Objective, Step
from rtok.config.attack_methods import GradientConfig

Run = Callable[[Tensor, int], Perturbed]  # from a start (B, 3, H, W) and the restart's number


@dataclass
class Strongest:
    """Per image the strongest one so far: one that fools goes before one that does not, then the larger loss.

    Attributes:
        images: (B, 3, H, W).
        loss, fooled: (B,) as an `Objective` says.
    """

    images: Tensor
    loss: Tensor
    fooled: Tensor

    @classmethod
    def none(cls, images: Tensor) -> Strongest:
        """Weaker than anything; `images` (B, 3, H, W) come back where nothing is offered."""
        nothing = images.new_full((len(images),), -torch.inf)
        return cls(images, nothing, nothing)

    def offer(self, images: Tensor, loss: Tensor, fooled: Tensor) -> None:
        """Take those that are stronger."""
        better = (fooled > self.fooled) | ((fooled == self.fooled) & (loss > self.loss))
        self.images = torch.where(per_image(better), images, self.images)
        self.loss = torch.where(better, loss, self.loss)
        self.fooled = torch.where(better, fooled, self.fooled)


def strongest_of_restarts(
    run: Run, settings: GradientConfig, images: Tensor, objective: Objective, context: Context
) -> Perturbed:
    """Run an attack from every start and keep the strongest result of each image (B, 3, H, W).

    `context.start`, where given, is where the first run sets out.
    """
    if settings.restarts == 1 and len(images):
        return run(_start(settings, images, context, 0), 0)
    best = Strongest.none(images)
    for restart in rounds(range(settings.restarts if len(images) else 0), "restart"):
        found = run(_start(settings, images, context, restart), restart).images
        best.offer(found, *as_used(found, settings, objective))
    return Perturbed(best.images, best.loss)


def as_used(images: Tensor, settings: GradientConfig, objective: Objective) -> tuple[Tensor, Tensor]:
    """The loss and who is fooled, (B,), in 8 bits and by one draw of the surrogate, so that results compare."""
    return objective.score(quantized(images, settings.quantize), Step(0, -1, settings.draws))


def _start(settings: GradientConfig, images: Tensor, context: Context, restart: int) -> Tensor:
    if context.start is not None and restart == 0:
        return context.start
    init = "uniform" if settings.init == "transfer" else settings.init
    noise = [
        start_noise(init, settings.norm, settings.eps, image[None].shape, [key], context.seed, restart, visit)
        for image, key, visit in zip(images, context.keys, context.visits or [0] * len(images), strict=True)
    ]
    scale = pixel_scale(images, settings.units, context.std)
    return images + scale * torch.cat(noise).to(images, non_blocking=True)
