"""What an attack maximizes: a surrogate (the model attacked) and a criterion (what its output should become)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from rtok.attacks.graphs import Graphs
from rtok.attacks.look import Look, captured_look, look, mean_fooled, mean_loss, summed

Model = Callable[[Tensor], Tensor]
Chosen = slice | Tensor  # which of a batch's images: a part of it, or their places (b,)


@dataclass(frozen=True)
class Step:
    """Which step of an attack this is; surrogates that change with every step derive their seed from it.

    Attributes:
        draws: how often a surrogate that is drawn at random is drawn for this step, so that the gradient is averaged
            over the draws (EOT; Athalye et al., 2018). Other surrogates ignore it.
    """

    restart: int
    index: int
    draws: int = 1


class Surrogate(Protocol):
    """The model that an attack is crafted on: one or more weighted members, possibly other ones at each step."""

    def members(self, step: Step) -> Sequence[tuple[float, Model]]:
        """The members of this step as (weight, model) with weights that sum to 1."""
        ...


@dataclass(frozen=True)
class FixedSurrogate:
    """A surrogate of one model that never changes: the `transfer` and `adaptive` threats."""

    model: Model

    def members(self, step: Step) -> Sequence[tuple[float, Model]]:
        """The model, with weight one."""
        return [(1.0, self.model)]


class Criterion(Protocol):
    """Maps the surrogate's output to one loss per image, which the attack maximizes."""

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Loss (b,) for the batch's images `images`, whose surrogate outputs are `output`."""
        ...

    def fooled(self, output: Tensor, images: Chosen) -> Tensor:
        """How much of this output of an image is wrong, (b,) in [0, 1] or bool; 0 where there is no right and wrong."""
        ...

    def solved(self, loss: Tensor) -> Tensor:
        """Whether an image with this loss needs no more attack, (b,) bool."""
        ...


class Augment(Protocol):
    """Changes what the surrogate sees of images."""

    def __call__(self, images: Tensor, part: slice, step: Step) -> Tensor:
        """Return what it sees of the batch's images `part` (b, C, H, W) at a step; differentiable."""
        ...


@dataclass(frozen=True)
class Passes:
    """What an attack asked of its surrogate: per image (B,) the passes through its models.

    Attributes:
        forwards: all passes; gradients: those with a gradient, which are forward passes too.
    """

    forwards: Tensor
    gradients: Tensor

    @classmethod
    def none(cls, images: Tensor) -> Passes:
        """No passes yet of images (B, C, H, W)."""
        return cls(*(torch.zeros(len(images), dtype=torch.int64, device=images.device) for _ in range(2)))

    def add(self, places: Chosen, models: int, *, gradient: bool, counted: Tensor | None = None) -> None:
        """Count a pass of the images at `places` (b,) through so many models, or of those of them in `counted` (b,)."""
        passes = models if counted is None else models * counted
        self.forwards[places] += passes
        self.gradients[places] += passes * gradient


@dataclass(frozen=True)
class Objective:
    """A surrogate and a criterion, with the one gradient that an attack needs: that with respect to the images.

    Args:
        micro_batch: how many images go through the surrogate at once; None means all. The result does not depend on it.
        augment: what the surrogate sees of the images when a gradient is taken; None means the images.
        places: which images of the criterion's batch it is asked about, (b,); None means all.
        passes: counts what is asked.
        counted: which of the images that are asked about are counted there, (b,) bool; None means all.
        graphs: captures the passes that take a gradient; None means that all are run.
    """

    surrogate: Surrogate
    criterion: Criterion
    micro_batch: int | None = None
    augment: Augment | None = None
    places: Tensor | None = None
    passes: Passes | None = None
    counted: Tensor | None = None
    graphs: Graphs | None = None

    def at(self, places: Tensor) -> Objective:
        """The same for some of its images alone, at `places` (b,)."""
        return replace(self, places=places if self.places is None else self.places[places])

    def counting(self, counted: Tensor) -> Objective:
        """The same, with the passes of some of the images that are asked about alone counted, (b,) bool."""
        return replace(self, counted=counted)

    def look(self, images: Tensor, step: Step) -> Look:
        """Return the loss, its gradient and who is fooled."""
        found = [self._look(images[part], part, step) for part in self._parts(images)]
        return found[0] if len(found) == 1 else Look(*(torch.cat(values) for values in zip(*found, strict=True)))

    def loss_and_gradient(self, images: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Return the loss per image (B,) and its gradient (B, C, H, W); neither carries a graph."""
        seen = self.look(images, step)
        return seen.loss, seen.gradient

    def loss(self, images: Tensor, step: Step) -> Tensor:
        """Return the loss per image (B,) without a gradient."""
        return self.score(images, step)[0]

    @torch.no_grad()
    def score(self, images: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Return the loss per image (B,), and the weight (B,) of the surrogate's members that it fools, in [0, 1]."""
        losses, shares = [], []
        for part in self._parts(images):
            outputs = self._outputs(images[part], part, step)
            asked = self._places(part)
            losses.append(mean_loss(self.criterion, outputs, asked))
            shares.append(mean_fooled(self.criterion, outputs, asked))
        return torch.cat(losses), torch.cat(shares)

    def output(self, images: Tensor, step: Step) -> Tensor:
        """Return the mean output of the surrogate's members, with a graph where images ask for a gradient."""
        outputs = self._outputs(images, slice(0, len(images)), step)
        return summed([output if weight == 1 else weight * output for weight, output in outputs])

    def _parts(self, images: Tensor) -> list[slice]:
        B = images.shape[0]
        size = self.micro_batch or max(B, 1)
        return [slice(begin, min(B, begin + size)) for begin in range(0, max(B, 1), size)]

    def _places(self, part: slice) -> Chosen:
        return part if self.places is None else self.places[part]

    def _outputs(self, images: Tensor, part: slice, step: Step) -> list[tuple[float, Tensor]]:
        members = self._members(part, step, gradient=torch.is_grad_enabled() and images.requires_grad)
        return [(weight, model(images)) for weight, model in members]

    def _members(self, part: slice, step: Step, *, gradient: bool) -> Sequence[tuple[float, Model]]:
        """The members of this step, which are about to be asked."""
        members = self.surrogate.members(step)
        if self.passes is not None:
            counted = None if self.counted is None else self.counted[part]
            self.passes.add(self._places(part), len(members), gradient=gradient, counted=counted)
        return members

    def _look(self, images: Tensor, part: slice, step: Step) -> Look:
        members, asked = self._members(part, step, gradient=True), self._places(part)
        if self.augment is None and self.graphs is not None:
            return captured_look(self.graphs, members, self.criterion, images, asked)
        augment = None if self.augment is None else partial(self.augment, part=part, step=step)
        return look(members, self.criterion, images, asked, augment)
