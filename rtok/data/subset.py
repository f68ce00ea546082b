"""`data.limit`: a part of a data set that represents the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from rtok.data.masks import MaskedFiles
from rtok.data.source import ImageSource
from rtok.seeding import image_seed


@dataclass(frozen=True)
class Subset:
    """The pictures of `source` at `indices`, in that order."""

    source: ImageSource
    indices: Sequence[int]

    @cached_property
    def keys(self) -> Sequence[str]:
        """The chosen pictures' keys."""
        return [self.source.keys[index] for index in self.indices]

    @cached_property
    def labels(self) -> Sequence[int] | None:
        """Their class indices; None for data without classes."""
        labels = self.source.labels
        return None if labels is None else [labels[index] for index in self.indices]

    @property
    def class_names(self) -> Sequence[str] | None:
        """The names of all classes; None for data without classes."""
        return self.source.class_names

    @cached_property
    def groups(self) -> Sequence[str]:
        """Their groups in `source`."""
        return [self.source.groups[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def files(self, index: int) -> list[Path]:
        """Return the files that a picture is read from; none where the data has no files."""
        files = getattr(self.source, "files", None)
        return files(self.indices[index]) if files else []

    def read(self, index: int) -> Image.Image:
        """Return one picture, 8-bit RGB."""
        return self.source.read(self.indices[index])


def take(source: ImageSource, limit: int, *, seed: int) -> ImageSource:
    """Choose `limit` pictures (or all, if there are fewer), evenly over the classes; without classes, over the groups.

    A hash of (seed, key) orders the pictures of each class. The first picture of every class is chosen, then the second
    of every class, and so on. Where each picture is its own group, as in a plain folder, its rank therefore does not
    depend on other files. The chosen pictures keep their order in `source`.
    """
    if limit >= len(source):
        return source
    strata: Sequence[object] = source.groups if source.labels is None else source.labels
    # NumPy, because ImageNet has more than a million keys. The sorts are stable, so ties keep their order.
    number: dict[object, int] = {}
    stratum = np.fromiter((number.setdefault(each, len(number)) for each in strata), np.int64, len(source))
    turn = np.fromiter((image_seed(seed, key, "limit") for key in source.keys), np.int64, len(source))
    by_stratum = np.lexsort((turn, stratum))
    first = np.searchsorted(stratum[by_stratum], stratum[by_stratum])
    rounds = np.empty_like(turn)
    rounds[by_stratum] = np.arange(len(source)) - first
    chosen = np.sort(np.lexsort((turn, rounds))[:limit]).tolist()
    return source.part(chosen) if isinstance(source, MaskedFiles) else Subset(source, chosen)
