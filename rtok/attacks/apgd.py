"""Auto-PGD (Croce & Hein, 2020): gradient ascent with momentum that chooses its own step sizes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from rtok.activity import rounds
from rtok.attacks.ball import per_image, pixel_scale, project, steepest
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.objective import Objective, Step
from rtok.attacks.restarts import Strongest, strongest_of_restarts
from rtok.config.attack_methods import APGDConfig

# Section 3.1 of the paper: the share of the new direction in a step; the first step, in radii; and the share of steps
# since the last check that must have raised the loss for the step size to stay.
NEW_SHARE = 0.75
FIRST_STEP = 2.0
RISING_SHARE = 0.75
# SEA (Croce, Singh & Hein, 2024): radii of a shrinking ball, and the tenths of the steps in each.
SHRINKING = ((2.0, 3), (1.5, 3), (1.0, 4))


def checkpoints(steps: int) -> list[int]:
    """After which of the steps the step size is checked: w_j = ceil(p_j * steps) of the paper, eq. (2).

    p_1 = 0.22, and each period is 0.03 shorter than the one before it, but no shorter than 0.06.
    """
    found, place, period = set(), 22, 22  # in hundredths, where nothing is lost by rounding
    while place <= 100:
        found.add(-(-place * steps // 100))
        period = max(period - 3, 6)
        place += period
    return sorted(found)


def shrinking(settings: APGDConfig) -> list[APGDConfig]:
    """The attacks that are run, each from where the last ended: one, or with `shrink` one for each radius."""
    if not settings.shrink:
        return [settings]
    counts = [tenths * settings.steps // 10 for _, tenths in SHRINKING[:-1]]
    stages = zip(SHRINKING, [*counts, settings.steps - sum(counts)], strict=True)
    radii = [(factor * settings.eps, steps) for (factor, _), steps in stages if steps]
    return [settings.model_copy(update={"eps": eps, "steps": steps}) for eps, steps in radii]


class APGD:
    """Auto-PGD on an `Objective`: algorithm 1 of the paper, with a step size of its own for every image.

    At `checkpoints` an image halves its step, and goes back to the best point it has seen, if too few steps since the
    last check raised its loss, or if neither its step nor its best loss has changed since then. What comes back is the
    strongest of all points on the way: one that fools the surrogate, if there is any, and of those the one with the
    largest loss.

    Args:
        settings, options: the keys of `APGDConfig`, whole or as keywords: `APGD(eps=8 / 255, restarts=5)`. `layer` and
            `variants` are for evaluations, which choose the model and run every variant.

    Raises:
        UserError: a keyword is unknown or has a wrong value.
    """

    def __init__(self, settings: APGDConfig | None = None, **options: Any) -> None:
        self.settings = read_settings(APGDConfig, settings, options)

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        """Craft one adversarial image per image (B, 3, H, W) in [0, 1]; its loss is that of the image returned.

        Raises:
            UserError: `normalized` units without `std`.
        """
        scale, stages = pixel_scale(images, self.settings.units, context.std), shrinking(self.settings)

        def run(start: Tensor, restart: int) -> Perturbed:
            done = 0
            for number in rounds(range(len(stages)), "radius"):
                stage = stages[number]
                found = self._ascend(stage, images, scale, objective, start, restart, done)
                start, done = found.images, done + 1 + stage.steps
            return found

        return strongest_of_restarts(run, stages[0], images, objective, context)

    def _ascend(
        self,
        settings: APGDConfig,
        images: Tensor,
        scale: Tensor,
        objective: Objective,
        start: Tensor,
        restart: int,
        done: int,
    ) -> Perturbed:
        into_ball = partial(project, images=images, norm=settings.norm, eps=settings.eps, scale=scale)

        x = before = into_ball(start)
        loss, fooled, gradient = objective.look(x, Step(restart, done, settings.draws))
        found = Strongest(x, loss, fooled)
        top, top_loss, top_gradient = x, loss, gradient  # the point with the largest loss

        size = torch.full_like(loss, FIRST_STEP * settings.eps)
        rises, checked = torch.zeros_like(loss), 0
        halved, top_loss_then = torch.ones_like(loss, dtype=torch.bool), loss  # at the last check
        checks = checkpoints(settings.steps)
        for k in rounds(range(1, settings.steps + 1), "step"):
            ahead = into_ball(x + per_image(size) * scale * steepest(gradient, settings.norm, scale))
            share = NEW_SHARE if k > 1 else 1.0
            x, before = into_ball(x + share * (ahead - x) + (1 - share) * (x - before)), x

            loss_before = loss
            if k < settings.steps:
                loss, fooled, gradient = objective.look(x, Step(restart, done + k, settings.draws))
            else:
                loss, fooled = objective.score(x, Step(restart, done + k, settings.draws))
            found.offer(x, loss, fooled)
            higher = loss > top_loss
            top, top_loss = torch.where(per_image(higher), x, top), torch.where(higher, loss, top_loss)
            top_gradient = torch.where(per_image(higher), gradient, top_gradient)
            rises = rises + (loss > loss_before)

            if k in checks:
                # The paper has <, its code <=, which published numbers come from.
                stuck = (rises <= RISING_SHARE * (k - checked)) | (~halved & (top_loss <= top_loss_then))
                size = torch.where(stuck, size / 2, size)
                x = torch.where(per_image(stuck), top, x)
                gradient = torch.where(per_image(stuck), top_gradient, gradient)
                rises, checked, halved, top_loss_then = torch.zeros_like(rises), k, stuck, top_loss
        return Perturbed(found.images, found.loss)
