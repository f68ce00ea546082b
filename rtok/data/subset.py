"""`data.limit`: a part of a data set that stands for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
        """Each picture's identity."""
        return [self.source.keys[index] for index in self.indices]

    @cached_property
    def labels(self) -> Sequence[int] | None:
        """Class indices, if the data has classes."""
        labels = self.source.labels
        return None if labels is None else [labels[index] for index in self.indices]

    @property
    def class_names(self) -> Sequence[str] | None:
        """The classes' names, if the data has classes."""
        return self.source.class_names

    @cached_property
    def groups(self) -> Sequence[str]:
        """The groups they belong to in `source`."""
        return [self.source.groups[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Image.Image:
        """Return one picture, 8-bit RGB."""
        return self.source.read(self.indices[index])


def take(source: ImageSource, limit: int, *, seed: int) -> ImageSource:
    """Choose `limit` pictures (all, if there are fewer), spread evenly over classes; else over groups.

    The order of choice is a hash of (seed, key): everybody's first picture of each class, then everybody's
    second, and so on. Where each picture is a group of its own, as in a plain folder, a picture's turn thus
    depends on no other file. What was chosen keeps the order it has in `source`.
    """
    if limit >= len(source):
        return source
    strata: Sequence[object] = source.groups if source.labels is None else source.labels
    # NumPy, since a whole ImageNet goes through here. The sorts are stable, so equal turns keep their order.
    number: dict[object, int] = {}
    stratum = np.fromiter((number.setdefault(each, len(number)) for each in strata), np.int64, len(source))
    turn = np.fromiter((image_seed(seed, key, "limit") for key in source.keys), np.int64, len(source))
    by_stratum = np.lexsort((turn, stratum))
    first = np.searchsorted(stratum[by_stratum], stratum[by_stratum])
    rounds = np.empty_like(turn)
    rounds[by_stratum] = np.arange(len(source)) - first
    chosen = np.sort(np.lexsort((turn, rounds))[:limit]).tolist()
    return source.part(chosen) if isinstance(source, MaskedFiles) else Subset(source, chosen)
