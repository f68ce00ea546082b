"""Batches of images, the same whatever the number of processes and workers.

What a batch holds is a `Plan`'s matter: a function of the batch's number. A torch DataLoader merely calls it ahead of
time in its workers, so workers can change nothing but the speed. Every random decision about an image derives from
(seed, key, visit).
"""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rtok.data.decoding import DecodeError, content_digest
from rtok.data.source import ImageSource
from rtok.data.transforms import ImageTransform, floats
from rtok.errors import UserError
from rtok.seeding import image_seed

OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class Batch:
    """One process's share of a global batch; it may be empty (b = 0)."""

    pixels: Tensor  # (b, 3, H, W), uint8 levels or float32 in [0, 1]
    keys: tuple[str, ...]
    labels: Tensor | None  # (b,), int64; None where the data has no classes
    groups: tuple[str, ...]
    visits: tuple[int, ...]  # how many times training had gone through the data before; 0 in evaluation
    digests: tuple[str, ...] = ()  # of each picture as it was decoded, whatever its name and file

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def images(self) -> Tensor:
        """The images (b, 3, H, W), float32 in [0, 1]."""
        return floats(self.pixels)

    def on(self, device: torch.device) -> Tensor:
        """The same on a device, to which 8-bit levels travel, in a quarter of the bytes."""
        return floats(self.pixels.to(device, non_blocking=True))


class Batches:
    """An iterable of batches with a length; `skipped` grows during iteration (`on_error: skip`)."""

    def __init__(self, plan: Plan, numbers: range, workers: int) -> None:
        self._plan = plan
        self._numbers = numbers
        self._workers = workers
        self.skipped: list[str] = []
        """The keys of the files that this process could not decode, each once, in the order it met them."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        loader: DataLoader[_Loaded] = DataLoader(
            self._plan,
            sampler=self._numbers,
            batch_size=None,  # an item is already a batch
            num_workers=self._workers,
            worker_init_fn=_ignore_interrupts,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # without one it advances the global generator
        )
        for loaded in loader:
            self.skipped = list(dict.fromkeys(self.skipped + loaded.skipped))  # each once
            if loaded.error is not None:
                raise loaded.error
            yield loaded.batch


@dataclass
class _Loaded:
    """What a worker sends back. Errors are values: torch would wrap a raised one in a worker's traceback."""

    batch: Batch
    skipped: list[str]
    error: UserError | None = None

    def pin_memory(self) -> _Loaded:
        """Move the tensors to page-locked memory; the DataLoader calls this by name when there is a GPU."""
        pixels, labels = self.batch.pixels, self.batch.labels
        pinned = replace(self.batch, pixels=pixels.pin_memory(), labels=None if labels is None else labels.pin_memory())
        return replace(self, batch=pinned)


@dataclass
class Sample:
    """One transformed picture: its number in the source, the visit it was read in, and the digest of what was read."""

    image: Tensor
    digest: str
    index: int
    visit: int


@dataclass(eq=False)
class Plan(Dataset[_Loaded]):
    """What every batch holds; item k is this process's share of global batch k."""

    source: ImageSource
    transform: ImageTransform
    batch_size: int  # of a global batch
    seed: int
    process: int
    processes: int
    on_error: OnError
    skipped: list[str] = field(default_factory=list, init=False)  # the keys that the batch at hand lacks

    @abstractmethod
    def samples(self, number: int) -> list[Sample]:
        """Read this process's share of global batch `number`."""

    def positions(self, number: int) -> range:
        """Return this process's positions of batch `number` in the whole sequence."""
        first, last = (self.batch_size * rank // self.processes for rank in (self.process, self.process + 1))
        return range(self.batch_size * number + first, self.batch_size * number + last)

    def read(self, index: int, visit: int) -> Sample | None:
        """Return picture `index`, or None if it cannot be decoded and `on_error` is `skip`."""
        key = self.source.keys[index]
        try:
            picture = self.source.read(index)
        except DecodeError:
            if self.on_error == "stop":
                raise
            self.skipped.append(key)
            return None
        image = self.transform(picture, image_seed(self.seed, key, "transform", visit))
        return Sample(image, content_digest(picture), index, visit)

    def __getitem__(self, number: int) -> _Loaded:
        self.skipped = []
        try:
            return _Loaded(self._batch(self.samples(number)), self.skipped)
        except UserError as error:
            return _Loaded(self._batch([]), self.skipped, error)

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        source, indices = self.source, [sample.index for sample in samples]
        images = [sample.image for sample in samples]
        labels = None if source.labels is None else [source.labels[index] for index in indices]
        return Batch(
            pixels=torch.stack(images) if images else torch.empty(0, 3, *self.transform.size, dtype=torch.uint8),
            keys=tuple(source.keys[index] for index in indices),
            labels=None if labels is None else torch.tensor(labels, dtype=torch.int64),
            groups=tuple(source.groups[index] for index in indices),
            visits=tuple(sample.visit for sample in samples),
            digests=tuple(sample.digest for sample in samples),
        )


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends the workers: no worker tracebacks, no torn batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
