"""Square attack (Andriushchenko et al., 2020): a random search that needs scores only, no gradient."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor

from rtok.activity import rounds
from rtok.attacks.ball import pixel_scale, project, quantized
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.noise import generator
from rtok.attacks.objective import Objective, Step
from rtok.config.attack_methods import SquareConfig

# The share of the image that a square covers at first, as AutoAttack has it, and the iterations (of 10,000; fewer are
# scaled to that) after which it halves (the paper's section 4.1 and its code).
FIRST_SHARE = 0.8
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
FULL_SCHEDULE = 10_000
# Which images are done is known on the device. To leave them out, the host has to wait for it: on a CPU that costs
# nothing, elsewhere it asks every so many queries only, and until then their further answers do not count.
ASKED_EVERY = 32


class Square:
    """Square attack for Linf: it repaints one random square at a time, and keeps what raises the objective.

    Every query is an image as a file holds it (`quantize`), and what comes back is the best image that was queried.
    An image that is misclassified is done; features never are. All random numbers of an image derive from its key.

    Args:
        settings, options: the keys of `SquareConfig`, whole or as keywords.

    Raises:
        UserError: a keyword is unknown or has a wrong value.
    """

    def __init__(self, settings: SquareConfig | None = None, **options: Any) -> None:
        self.settings = read_settings(SquareConfig, settings, options)

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        """Search from `context.start` (B, 3, H, W), or else from vertical stripes around `images`."""
        B, C, _, W = images.shape
        if not B:
            return Perturbed(images, images.new_zeros(0))
        settings, start = self.settings, context.start
        radius = settings.eps * pixel_scale(images, settings.units, context.std)
        generators = [generator(context.seed, key, "square") for key in context.keys]
        stripes = torch.stack([torch.rand(C, 1, W, generator=g) for g in generators]).to(images)
        # Every image's own numbers: per query a row, a column and a color (a sign per channel).
        numbers = torch.stack([torch.rand(settings.queries, 2 + C, generator=g) for g in generators]).to(images)
        first = images + radius * _signs(stripes) if start is None else start
        best = images.clone()  # the first query: a clean image may be misclassified already
        loss = objective.loss(best, Step(0, 0))
        every = asked_every(images.device)
        for query in rounds(range(1, settings.queries), "query"):
            if (query - 1) % every == 0:
                open_ = (~objective.criterion.solved(loss)).nonzero().squeeze(1)
                if not len(open_):
                    break
            if query == 1:
                tried = first[open_]
            else:
                square = self._square(query, numbers[open_, query], images.shape[2:])
                color = radius * _signs(numbers[open_, query, 2:, None, None])
                tried = torch.where(square, images[open_] + color, best[open_])
            tried = quantized(project(tried, images[open_], "linf", 1.0, radius), settings.quantize)
            unsolved = ~objective.criterion.solved(loss)[open_]
            found = objective.at(open_).counting(unsolved).loss(tried, Step(0, query))
            better = (found > loss[open_]) & unsolved
            best[open_] = torch.where(better[:, None, None, None], tried, best[open_])
            loss[open_] = torch.where(better, found, loss[open_])
        return Perturbed(best, loss)

    def _square(self, query: int, numbers: Tensor, size: torch.Size) -> Tensor:
        """Where each image's square lies, (b, 1, H, W) bool."""
        H, W = size
        side = min(max(round(sqrt(self.share(query) * H * W)), 1), H, W)
        inside = []
        for number, length in ((numbers[:, 0], H), (numbers[:, 1], W)):
            first = (number * (length - side + 1)).long()[:, None]
            place = torch.arange(length, device=numbers.device)[None]
            inside.append((place >= first) & (place < first + side))
        return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]

    def share(self, query: int) -> float:
        """The share of the image that this query's square covers."""
        iteration = query * FULL_SCHEDULE // self.settings.queries
        return FIRST_SHARE / 2 ** sum(iteration > halving for halving in HALVINGS)


def asked_every(device: torch.device) -> int:
    """After how many queries the host asks which images are done."""
    return 1 if device.type == "cpu" else ASKED_EVERY


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, -1.0, 1.0).to(numbers)
