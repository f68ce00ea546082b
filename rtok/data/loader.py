"""Which images a batch holds: in evaluation each image once, in training an endless seeded sequence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rtok.data.batches import Batch, Batches, OnError, Reader, Sample
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
    reader = Reader(source, transform, seed, on_error)
    plan = _EvaluationPlan(reader, indices, _Share(batch_size, process, processes))
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
    reader = Reader(source, transform, seed, on_error)
    plan = _TrainingPlan(reader, _Share(batch_size, process, processes))
    return Batches(plan, range(start, steps), workers)


@dataclass(frozen=True)
class _Share:
    """This process's part of every global batch."""

    batch_size: int
    process: int
    processes: int

    def of(self, number: int) -> range:
        """Return this process's positions of batch `number` in the whole sequence."""
        first, last = (self.batch_size * rank // self.processes for rank in (self.process, self.process + 1))
        return range(self.batch_size * number + first, self.batch_size * number + last)


@dataclass
class _EvaluationPlan:
    reader: Reader
    indices: Sequence[int]
    share: _Share

    def samples(self, number: int) -> list[Sample]:
        positions = self.share.of(number)
        indices = self.indices[positions.start : positions.stop]
        return [sample for index in indices if (sample := self.reader.read(index, visit=0)) is not None]


@dataclass
class _TrainingPlan:
    reader: Reader
    share: _Share
    # The permutation of the last visit, kept because the batches of a visit share it.
    _visit: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def samples(self, number: int) -> list[Sample]:
        return [self._sample(position) for position in self.share.of(number)]

    def _sample(self, position: int) -> Sample:
        count = len(self.reader.source)
        visit, place = divmod(position, count)
        order = self._permutation(visit)
        for offset in range(count):
            sample = self.reader.read(int(order[(place + offset) % count]), visit)
            if sample is not None:
                return sample
        raise UserError(f"data: none of the {count} images can be decoded, for example {self.reader.skipped[0]}.")

    def _permutation(self, visit: int) -> Tensor:
        if self._visit != visit:
            generator = torch.Generator().manual_seed(image_seed(self.reader.seed, "", "permutation", visit))
            self._visit, self._order = visit, torch.randperm(len(self.reader.source), generator=generator)
        return self._order
