"""Batches for evaluation and for training, the same whatever the number of processes and workers.

Both kinds are a function from a batch's number to the batch (`_EvaluationPlan`, `_TrainingPlan`). A torch
DataLoader merely calls it ahead of time in its workers, so workers can change nothing but the speed. Every
random decision about an image derives from (seed, key, visit).
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rtok.data.decoding import DecodeError
from rtok.data.source import ImageSource
from rtok.data.transforms import ImageTransform
from rtok.errors import UserError
from rtok.seeding import image_seed

OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class Batch:
    """One process's share of a global batch; it may be empty (b = 0)."""

    images: Tensor  # (b, 3, H, W), float32 in [0, 1]
    keys: tuple[str, ...]
    labels: Tensor | None  # (b,), int64; None where the data has no classes
    groups: tuple[str, ...]
    visits: tuple[int, ...]  # how often the training sequence had been through the data; 0 in evaluation

    def __len__(self) -> int:
        return len(self.keys)


class Batches:
    """An iterable of batches with a length. `skipped` grows while it is iterated (`on_error: skip`)."""

    def __init__(self, plan: _Plan, numbers: range, workers: int) -> None:
        self._plan = plan
        self._numbers = numbers
        self._workers = workers
        self.skipped: list[str] = []
        """The keys of the files that this process could not decode, each once, in the order they came up."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        loader: DataLoader[_Loaded] = DataLoader(
            _PlanDataset(self._plan),
            sampler=self._numbers,
            batch_size=None,  # an item is a batch already
            collate_fn=_unchanged,
            num_workers=self._workers,
            worker_init_fn=_ignore_interrupts,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it would draw a number from the global one
        )
        for loaded in loader:
            self.skipped = list(dict.fromkeys(self.skipped + loaded.skipped))  # each once
            if loaded.error is not None:
                raise loaded.error
            yield loaded.batch


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
    """Every picture once, in the source's order, but for those whose key is in `skip` (finished before).

    `batch_size` is global. Every process gets its contiguous share of every global batch, so all processes
    see the same number of batches; at the end a share may be empty.

    With `on_error="skip"`, a picture that cannot be decoded is absent from its batch, and named in `skipped`.

    Raises:
        DecodeError: while iterating with `on_error="stop"`, also when a worker met it.
    """
    indices = [index for index, key in enumerate(source.keys) if key not in skip]
    reader = _Reader(source, transform, seed, on_error)
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
    """The batches of steps `start` to `steps - 1` from an endless sequence of seeded permutations.

    Visit e of the data is permutation e; global batches are cut from the sequence without a break and are
    always full; each process gets its contiguous share. All of it is a function of (seed, step) alone, so
    neither a resumed run nor another number of processes sees other images.

    With `on_error="skip"`, the next picture of the same permutation that can be decoded stands in for one
    that cannot, and the latter is named in `skipped`.

    Raises:
        DecodeError: while iterating with `on_error="stop"`, also when a worker met it.
        UserError: no picture at all can be decoded.
    """
    reader = _Reader(source, transform, seed, on_error)
    plan = _TrainingPlan(reader, _Share(batch_size, process, processes))
    return Batches(plan, range(start, steps), workers)


@dataclass(frozen=True)
class _Share:
    """Which part of every global batch is this process's."""

    batch_size: int
    process: int
    processes: int

    def of(self, number: int) -> range:
        """Return the positions in the whole sequence that batch `number` holds for this process."""
        first, last = (self.batch_size * rank // self.processes for rank in (self.process, self.process + 1))
        return range(self.batch_size * number + first, self.batch_size * number + last)


@dataclass
class _Loaded:
    """What a worker sends back. Errors travel as values: torch would wrap a raised one into a traceback."""

    batch: Batch
    skipped: list[str]
    error: UserError | None = None

    def pin_memory(self) -> _Loaded:
        """Move the tensors to page-locked memory; the DataLoader calls this by name when there is a GPU."""
        images, labels = self.batch.images, self.batch.labels
        pinned = replace(
            self.batch, images=images.pin_memory(), labels=None if labels is None else labels.pin_memory()
        )
        return replace(self, batch=pinned)


@dataclass
class _Sample:
    image: Tensor
    index: int
    visit: int


@dataclass
class _Reader:
    """Reads single pictures, and remembers what it had to skip until a batch is put together."""

    source: ImageSource
    transform: ImageTransform
    seed: int
    on_error: OnError
    skipped: list[str] = field(default_factory=list)

    def read(self, index: int, visit: int) -> _Sample | None:
        """Return picture `index`, or None if it cannot be decoded and that is to be skipped."""
        key = self.source.keys[index]
        try:
            picture = self.source.read(index)
        except DecodeError:
            if self.on_error == "stop":
                raise
            self.skipped.append(key)
            return None
        return _Sample(self.transform(picture, image_seed(self.seed, key, "transform", visit)), index, visit)

    def batch(self, samples: Sequence[_Sample]) -> Batch:
        source, indices = self.source, [sample.index for sample in samples]
        images = [sample.image for sample in samples]
        labels = None if source.labels is None else [source.labels[index] for index in indices]
        return Batch(
            images=torch.stack(images) if images else torch.empty(0, 3, *self.transform.size),
            keys=tuple(source.keys[index] for index in indices),
            labels=None if labels is None else torch.tensor(labels, dtype=torch.int64),
            groups=tuple(source.groups[index] for index in indices),
            visits=tuple(sample.visit for sample in samples),
        )


class _Plan(Protocol):
    reader: _Reader

    def samples(self, number: int) -> list[_Sample]:
        """Read this process's share of global batch `number`."""


@dataclass
class _EvaluationPlan:
    reader: _Reader
    indices: Sequence[int]
    share: _Share

    def samples(self, number: int) -> list[_Sample]:
        positions = self.share.of(number)
        indices = self.indices[positions.start : positions.stop]
        return [sample for index in indices if (sample := self.reader.read(index, visit=0)) is not None]


@dataclass
class _TrainingPlan:
    reader: _Reader
    share: _Share
    # The last visit's permutation, kept because the batches of a visit share it.
    _visit: int = field(default=-1, init=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def samples(self, number: int) -> list[_Sample]:
        return [self._sample(position) for position in self.share.of(number)]

    def _sample(self, position: int) -> _Sample:
        count = len(self.reader.source)
        visit, place = divmod(position, count)
        order = self._permutation(visit)
        for offset in range(count):
            sample = self.reader.read(int(order[(place + offset) % count]), visit)
            if sample is not None:
                return sample
        raise UserError(f"data: none of the {count} images can be decoded, {self.reader.skipped[0]} for one.")

    def _permutation(self, visit: int) -> Tensor:
        if self._visit != visit:
            generator = torch.Generator().manual_seed(image_seed(self.reader.seed, "", "permutation", visit))
            self._visit, self._order = visit, torch.randperm(len(self.reader.source), generator=generator)
        return self._order


class _PlanDataset(Dataset["_Loaded"]):
    def __init__(self, plan: _Plan) -> None:
        self.plan = plan

    def __getitem__(self, number: int) -> _Loaded:
        reader = self.plan.reader
        reader.skipped = []
        try:
            return _Loaded(reader.batch(self.plan.samples(number)), reader.skipped)
        except UserError as error:
            return _Loaded(reader.batch([]), reader.skipped, error)


def _unchanged(loaded: Any) -> Any:
    return loaded


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends the workers: no traceback of theirs, no torn batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
