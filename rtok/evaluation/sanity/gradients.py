"""Whether the gradient that an attack follows is that of the deployed model: compared with finite differences.

Along its own sign a right gradient predicts the change of the loss to the last per mille; flipped signs, noise or a
wrong scale do not. But a gradient that is right on a part of the image and zero elsewhere passes there, so that random
directions over the whole image are tried too: there the mean square of what it fails to predict is the square of its
distance to the true gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rtok.attacks.noise import generator
from rtok.attacks.objective import Objective, Step

# Half widths of the differences, in pixels. On a DINOv2 ViT-S/14 (98 px) right gradients are then off by at most 0.002
# along their sign and in random directions; at widths five times as large by up to 0.05, since the loss is curved.
ALONG, ACROSS = 0.02 / 255, 0.1 / 255
DIRECTIONS = 8  # random ones per point
# With 10 % of its signs flipped a gradient predicts 0.8 of the change along its sign; with a tenth of its energy
# missing it is off by a third in random directions, of which 16 tell that from half as much.
ALONG_TOLERANCE, ACROSS_TOLERANCE = 0.05, 0.15
# The loss has rounding errors: so many evaluations at points that differ by rounding say how large. A difference of
# two may be off by this many standard deviations.
EVALUATIONS, ROUNDING, DEVIATIONS = 6, 1e-6, 4
SAME = 1e-5  # losses (relative to those above 1) that are no further apart are equal


@dataclass(frozen=True)
class Agreement:
    """A gradient beside finite differences, per image (B,).

    Attributes:
        along: the change of the loss along the gradient's sign, over what the gradient predicts.
        across: the distance of the gradient to the true one over its length, estimated in random directions.
        apart: how far the loss that is climbed is from the deployed model's.
        along_noise, across_noise, apart_noise: what the rounding of the loss may add to the three.

    A gradient that is zero or not finite predicts 0 and misses everything: `along` is 0, `across` is 1.
    """

    along: Tensor
    across: Tensor
    apart: Tensor
    along_noise: Tensor
    across_noise: Tensor
    apart_noise: Tensor

    @property
    def passed(self) -> Tensor:
        """Whether the gradient is right as far as can be told, (B,) bool."""
        along = (self.along - 1).abs() <= ALONG_TOLERANCE + self.along_noise
        return along & (self.across <= ACROSS_TOLERANCE + self.across_noise) & (self.apart <= self.apart_noise)


def agreement(
    claimed: Objective, deployed: Objective, points: Tensor, keys: Sequence[str], seed: int, name: str
) -> Agreement:
    """Compare the gradient of `claimed` with differences of `deployed` at points (B, 3, H, W).

    Args:
        keys, seed, name: what the random directions derive from.
    """
    step = Step(0, 0)
    points = points.clamp(ACROSS, 1 - ACROSS)  # so that no difference leaves [0, 1]
    climbed, gradient = claimed.loss_and_gradient(points, step)
    loss = deployed.loss(points, step)
    generators = [generator(seed, key, "sanity", name) for key in keys]

    def random_signs() -> Tensor:
        return torch.stack([torch.randint(0, 2, points.shape[1:], generator=g) for g in generators]).to(points) * 2 - 1

    def change(direction: Tensor, width: float) -> Tensor:
        ahead, behind = (deployed.loss(points + side * width * direction, step).double() for side in (1, -1))
        return (ahead - behind) / (2 * width)

    noise = torch.stack([deployed.loss(points + ROUNDING * random_signs(), step) for _ in range(EVALUATIONS)]).std(0)
    flat = gradient.double().flatten(1)
    absolute, length = flat.abs().sum(1), flat.norm(dim=1)
    missed = []
    for _ in range(DIRECTIONS):
        direction = random_signs()
        missed.append(change(direction, ACROSS) - (gradient * direction).double().flatten(1).sum(1))
    error = DEVIATIONS * noise.double() / 2**0.5  # of a difference of two, over twice a width
    other_kernels = (climbed - claimed.loss(points, step)).abs()  # those without a gradient may round otherwise
    there = flat.isfinite().all(1) & (length > 0)
    return Agreement(
        torch.where(there, change(gradient.sign(), ALONG) / absolute, 0.0),
        torch.where(there, torch.stack(missed).square().mean(0).sqrt() / length, 1.0),
        (climbed - loss).abs(),
        torch.where(there, error / (ALONG * absolute), 0.0),
        torch.where(there, error / (ACROSS * length), 0.0),
        SAME * loss.abs().clamp(min=1) + DEVIATIONS * (2**0.5 * noise + other_kernels),
    )


def worst(found: Sequence[Agreement]) -> tuple[float, float, float]:
    """The values of `along` (the one farthest from 1), `across` and `apart` among all points."""
    along = torch.cat([one.along for one in found])
    across, apart = (
        float(torch.cat(values).max()) for values in zip(*((f.across, f.apart) for f in found), strict=True)
    )
    return float(along[(along - 1).abs().argmax()]), across, apart
