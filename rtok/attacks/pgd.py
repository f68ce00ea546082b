"""Projected gradient descent, in pixel space."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rtok.attacks.ball import per_image, pixel_scale, project, steepest
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.diversity import Diversity
from rtok.attacks.objective import Objective, Step
from rtok.attacks.restarts import strongest_of_restarts
from rtok.config.attack_methods import PGDConfig


class PGD:
    """PGD (Madry et al., 2018) that maximizes an `Objective` per image.

    Every decision is made per image, so an image's result does not depend on its batch. In normalized units the ball
    is a box with a radius of its own per channel.

    Args:
        settings, options: the keys of `PGDConfig`, whole or as keywords: `PGD(eps=8 / 255, steps=5)`. `layer` and
            `variants` are for evaluations, which choose the model and run every variant.

    Raises:
        UserError: a keyword is unknown or has a wrong value.
    """

    def __init__(self, settings: PGDConfig | None = None, **options: Any) -> None:
        self.settings = read_settings(PGDConfig, settings, options)

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        """Craft one adversarial image per image (B, 3, H, W) in [0, 1].

        Of several restarts, an image keeps one that fools the surrogate, if there is any, and among equals the one with
        the largest objective.

        Raises:
            UserError: `normalized` units without `std`.
        """
        settings = self.settings
        scale = pixel_scale(images, settings.units, context.std)
        seen = objective
        if settings.diversity:
            seen = replace(objective, augment=Diversity(settings.diversity, context.keys, context.seed))
        run = partial(self._descend, images, scale, seen)
        return strongest_of_restarts(run, settings, images, objective, context)

    def _descend(self, images: Tensor, scale: Tensor, objective: Objective, start: Tensor, restart: int) -> Perturbed:
        settings = self.settings
        into_ball = partial(project, images=images, norm=settings.norm, eps=settings.eps, scale=scale)
        step = (settings.eps / 4 if settings.step is None else settings.step) * scale
        adversarial = into_ball(start)
        velocity = torch.zeros_like(images) if settings.momentum else None
        loss = images.new_full((images.shape[0],), -torch.inf)
        for k in range(settings.steps):
            loss, gradient = objective.loss_and_gradient(adversarial, Step(restart, k))
            if settings.mse_weight:
                # The gradient of -mse_weight * mean((adversarial - images)^2), in closed form.
                pull = 2 * settings.mse_weight / images[0].numel()
                gradient = gradient.sub(adversarial - images, alpha=pull)
            if velocity is not None:
                mean = per_image(gradient.abs().mean((1, 2, 3)))  # 0 where the loss is flat
                unit = gradient / mean.clamp(min=torch.finfo(gradient.dtype).tiny)
                gradient = velocity = settings.momentum * velocity + unit
            moved = into_ball(adversarial + step * steepest(gradient, settings.norm, scale))
            if settings.max_mse is None:
                adversarial = moved
            else:
                moving = (adversarial - images).square().mean((1, 2, 3)) < settings.max_mse
                adversarial = torch.where(per_image(moving), moved, adversarial)
        return Perturbed(adversarial, loss)
