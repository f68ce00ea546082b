"""Projected gradient descent, in pixel space, with three seams: start, normalize, project."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rtok.attacks.ball import per_image, pixel_scale, project, quantized
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.diversity import Diversity
from rtok.attacks.noise import start_noise
from rtok.attacks.objective import Objective, Step
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

        `context.start`, where given, is where the first restart sets out. Of several restarts, an image keeps one that
        fools the surrogate, if there is any, and among equals the one with the largest objective.

        Raises:
            UserError: `normalized` units without `std`.
        """
        settings = self.settings
        scale = pixel_scale(images, settings.units, context.std)
        seen = objective
        if settings.diversity:
            seen = replace(objective, augment=Diversity(settings.diversity, context.keys, context.seed))
        nothing = images.new_full((len(images),), -torch.inf)
        best, fooled = Perturbed(images, nothing), nothing
        for restart in range(settings.restarts if len(images) else 0):
            begin = context.start
            if begin is None or restart:
                begin = images + scale * self._noise(images, context, restart)
            found = self._descend(images, begin, scale, seen, restart)
            if settings.restarts == 1:
                return found
            # As it will be used: in 8 bits, and by one draw of the surrogate, so that restarts compare.
            final = quantized(found.images, settings.quantize)
            loss, fools = objective.score(final, Step(0, -1))
            keep = (fools > fooled) | ((fools == fooled) & (loss > best.loss))
            kept = torch.where(per_image(keep), found.images, best.images)
            best = Perturbed(kept, torch.where(keep, loss, best.loss))
            fooled = torch.where(keep, fools, fooled)
        return best

    def _noise(self, images: Tensor, context: Context, restart: int) -> Tensor:
        settings, visits = self.settings, context.visits or [0] * len(images)
        init = "uniform" if settings.init == "transfer" else settings.init
        noise = [
            start_noise(init, settings.norm, settings.eps, image[None].shape, [key], context.seed, restart, visit)
            for image, key, visit in zip(images, context.keys, visits, strict=True)
        ]
        return torch.cat(noise).to(images, non_blocking=True)

    def _descend(self, images: Tensor, start: Tensor, scale: Tensor, objective: Objective, restart: int) -> Perturbed:
        settings = self.settings
        step = (settings.eps / 4 if settings.step is None else settings.step) * scale
        adversarial = self._project(start, images, scale)
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
            moved = self._project(adversarial + step * self._normalize(gradient, scale), images, scale)
            if settings.max_mse is None:
                adversarial = moved
            else:
                moving = (adversarial - images).square().mean((1, 2, 3)) < settings.max_mse
                adversarial = torch.where(per_image(moving), moved, adversarial)
        return Perturbed(adversarial, loss)

    def _normalize(self, gradient: Tensor, scale: Tensor) -> Tensor:
        """The steepest direction of length one in the attack's units."""
        if self.settings.norm == "linf":
            return gradient.sign()
        gradient = gradient * scale  # chain rule from pixels to units
        length = per_image(gradient.flatten(1).norm(dim=1))
        return gradient / length.clamp(min=torch.finfo(gradient.dtype).tiny)

    def _project(self, adversarial: Tensor, images: Tensor, scale: Tensor) -> Tensor:
        return project(adversarial, images, self.settings.norm, self.settings.eps, scale)
