"""Projected gradient descent, in pixel space."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rtok.activity import rounds
from rtok.attacks.ball import per_image, pixel_scale, project, steepest
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.diversity import Diversity
from rtok.attacks.objective import Objective, Step
from rtok.attacks.restarts import Strongest, as_used, strongest_of_restarts
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
        """Craft one adversarial image per image (B, 3, H, W) in [0, 1]: where its last step ends.

        An image that fooled the surrogate on the way and comes back right in the end is given back as it fooled: any
        image in the ball that does is a success. Features are never wrong, so there the last step counts, as published;
        `APGD` returns the largest loss. Of several restarts, an image keeps one that fools the surrogate, if there is
        any, and among equals the one with the largest objective.

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
        step = self._step() * scale
        adversarial = into_ball(start)
        velocity = torch.zeros_like(images) if settings.momentum else None
        loss, on_the_way = images.new_full((images.shape[0],), -torch.inf), Strongest.none(images)
        for k in rounds(range(settings.steps), "step"):
            loss, fooled, gradient = objective.look(adversarial, Step(restart, k, settings.draws))
            on_the_way.offer(adversarial, loss, fooled)
            if settings.mse_weight:
                # The gradient of -mse_weight * mean((adversarial - images)^2), in closed form.
                pull = 2 * settings.mse_weight / images[0].numel()
                gradient = gradient.sub(adversarial - images, alpha=pull)
            if velocity is not None:
                # The published L1 norm but for a factor, which no direction depends on; 0 where the loss is flat.
                mean = per_image(gradient.abs().mean((1, 2, 3)))
                unit = gradient / mean.clamp(min=torch.finfo(gradient.dtype).tiny)
                gradient = velocity = settings.momentum * velocity + unit
            moved = into_ball(adversarial + step * steepest(gradient, settings.norm, scale))
            if settings.max_mse is None:
                adversarial = moved
            else:
                moving = (adversarial - images).square().mean((1, 2, 3)) < settings.max_mse
                adversarial = torch.where(per_image(moving), moved, adversarial)
        return Perturbed(self._fooling(adversarial, on_the_way, objective), loss)

    def _step(self) -> float:
        settings = self.settings
        if settings.step is not None:
            return settings.step
        # MI-FGSM's steps are as long as they must be to end at the radius (Dong et al., 2018, algorithm 1).
        return settings.eps / (settings.steps if settings.momentum else 4)

    def _fooling(self, last: Tensor, on_the_way: Strongest, objective: Objective) -> Tensor:
        """The last images; where one fools less than one before, whichever of both is stronger as it will be used."""
        places = (on_the_way.fooled > 0).nonzero().squeeze(1)
        if not len(places):
            return last
        ends, there = last[places], objective.at(places)
        end = Strongest(ends, *as_used(ends, self.settings, there))
        weaker = (end.fooled < on_the_way.fooled[places]).nonzero().squeeze(1)
        if not len(weaker):
            return last
        best = Strongest(ends[weaker], end.loss[weaker], end.fooled[weaker])
        before = on_the_way.images[places[weaker]]
        best.offer(before, *as_used(before, self.settings, there.at(weaker)))
        last = last.clone()
        last[places[weaker]] = best.images
        return last
