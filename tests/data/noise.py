"""Pictures of noise, and what is asked of batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from PIL import Image

from rtok.data.decoding import DecodeError
from rtok.data.loader import Batch
from rtok.data.transforms import Transform

SQUASH = Transform("squash", (4, 4))

RANDOM = Transform("random-crop", (4, 4))

WORKERS = [0, 2]


@dataclass(frozen=True)
class Noise:
    """Pictures of noise, each its own; those in `broken` cannot be decoded."""

    count: int
    broken: frozenset[int] = frozenset()
    labeled: bool = True
    class_names: Sequence[str] | None = field(default=None)

    @property
    def keys(self) -> list[str]:
        return [f"dir/{index}.png" for index in range(self.count)]

    @property
    def labels(self) -> list[int] | None:
        return [index % 3 for index in range(self.count)] if self.labeled else None

    @property
    def groups(self) -> list[str]:
        return [f"photo {index // 2}" for index in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image.Image:
        if index in self.broken:
            raise DecodeError(self.keys[index], "the file is empty")
        pixels = np.random.default_rng(index).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


def keys(batches: Sequence[Batch]) -> list[str]:
    return list(chain.from_iterable(batch.keys for batch in batches))


def assert_same(left: Sequence[Batch], right: Sequence[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert (a.keys, a.groups, a.visits) == (b.keys, b.groups, b.visits)
        assert torch.equal(a.images, b.images)
        assert (a.labels is None) == (b.labels is None)
        assert a.labels is None or torch.equal(a.labels, b.labels)


def joined(shares: Sequence[Sequence[Batch]]) -> list[Batch]:
    """Put the processes' shares of every global batch together again."""
    return [
        Batch(
            pixels=torch.cat([part.pixels for part in parts]),
            keys=tuple(keys(parts)),
            labels=torch.cat([part.labels for part in parts]),
            groups=tuple(chain.from_iterable(part.groups for part in parts)),
            visits=tuple(chain.from_iterable(part.visits for part in parts)),
        )
        for parts in zip(*shares, strict=True)
    ]
