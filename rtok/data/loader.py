"""Which images a batch holds: in evaluation each image once, in training an endless seeded sequence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rtok.data.batches import Batch, Batches, OnError, Plan, Sample
from rtok.data.source import ImageSource
from rtok.data.transforms import ImageTransform
from rtok.errors import UserError
from rtok.seeding import image_seed

__all__ = ["Batch", "Batches", "evaluation_batches", "training_batches"]


def evaluation_batches(
    source: ImageSource,
    transform: ImageTransform,
    *,
    batch_size: int,
    seed: int,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    on_error: OnError = "stop",
    skip: Collection[str] = frozenset(),
) -> Batches:
    """Return every picture once, in the source's order, except those whose key is in `skip` (finished earlier).

    `batch_size` is global. Every process gets its contiguous share of every global batch, so all processes see the same
    number of batches; at the end a share may be empty.

    With `on_error="skip"`, a picture that cannot be decoded is missing from its batch and listed in `skipped`.

    Raises:
        DecodeError: during iteration with `on_error="stop"`, also when it happened in a worker.
    """
    indices = [index for index, key in enumerate(source.keys) if key not in skip]
    plan = _EvaluationPlan(source, transform, batch_size, seed, process, processes, on_error, indices)
    return Batches(plan, range(-(-len(indices) // batch_size)), workers)


def training_batches(
    source: ImageSource,
    transform: ImageTransform,
    *,
    batch_size: int,
    start: int,
    steps: int,
    seed: int,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    on_error: OnError = "stop",
) -> Batches:
    """Return the batches of steps `start` to `steps - 1` from an endless sequence of seeded permutations.

    Visit e of the data is permutation e. Global batches are consecutive pieces of the sequence and always full; each
    process gets its contiguous share. All of it is a function of (seed, step) alone, so a resumed run and any number of
    processes see the same images.

    With `on_error="skip"`, a picture that cannot be decoded is replaced by the next one of the same permutation that
    can, and listed in `skipped`.

    Raises:
        DecodeError: during iteration with `on_error="stop"`, also when it happened in a worker.
        UserError: no picture can be decoded.
    """
    plan = _TrainingPlan(source, transform, batch_size, seed, process, processes, on_error)
    return Batches(plan, range(start, steps), workers)


@dataclass(eq=False)
class _EvaluationPlan(Plan):
    indices: Sequence[int]

    def samples(self, number: int) -> list[Sample]:
        positions = self.positions(number)
        indices = self.indices[positions.start : positions.stop]
        return [sample for index in indices if (sample := self.read(index, visit=0)) is not None]


@dataclass(eq=False)
class _TrainingPlan(Plan):
    # The permutation of the last visit, kept because the batches of a visit share it.
    _visit: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def samples(self, number: int) -> list[Sample]:
        return [self._sample(position) for position in self.positions(number)]

    def _sample(self, position: int) -> Sample:
        count = len(self.source)
        visit, place = divmod(position, count)
        if self._visit != visit:
            generator = torch.Generator().manual_seed(image_seed(self.seed, "", "permutation", visit))
            self._visit, self._order = visit, torch.randperm(count, generator=generator)
        for offset in range(count):
            sample = self.read(int(self._order[(place + offset) % count]), visit)
            if sample is not None:
                return sample
        raise UserError(f"data: none of the {count} images can be decoded, for example {self.skipped[0]}.")
