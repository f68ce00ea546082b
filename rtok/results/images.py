"""What was measured of images, column by column: a row for each would not fit into memory where there are many."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtok.results.rows import KEYS, Row
from rtok.statistics import Floats

_ABOUT = frozenset(("image", "group", "draw", *KEYS))  # columns that say which row it is


@dataclass(frozen=True, eq=False)
class Images:
    """What was measured of n images, each D times: by draws of the control, or by seeds.

    Attributes:
        keys, groups: (n,), the images and what they come from.
        numbers: per column (n, D); NaN where it does not apply.
        lists: per column (n, D) lists, which are added up over the data set.
        victim: the role of the victim that they were measured of.
    """

    keys: Sequence[str]
    groups: Sequence[Any]
    numbers: Mapping[str, Floats]
    lists: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    victim: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, wanted: NDArray[np.bool_]) -> Images:
        """Return the images for which `wanted` (n,) holds."""
        if wanted.all():
            return self
        return replace(
            self,
            keys=list(compress(self.keys, wanted)),
            groups=list(compress(self.groups, wanted)),
            numbers={name: values[wanted] for name, values in self.numbers.items()},
            lists={name: list(compress(values, wanted)) for name, values in self.lists.items()},
        )

    def at(self, keys: Sequence[str]) -> Images:
        """Return the images with these keys, in their order."""
        if keys == self.keys:
            return self
        place = {key: number for number, key in enumerate(self.keys)}
        places = [place[key] for key in keys]
        return replace(
            self,
            keys=keys,
            groups=[self.groups[i] for i in places],
            numbers={name: values[places] for name, values in self.numbers.items()},
            lists={name: [values[i] for i in places] for name, values in self.lists.items()},
        )


def side_by_side(parts: Sequence[Images]) -> Images:
    """Return measurements of the same images as one with all their repetitions."""
    first = parts[0]
    if len(parts) == 1:
        return first
    parts = [part.at(first.keys) for part in parts]
    return replace(
        first,
        numbers={name: np.hstack([part.numbers[name] for part in parts]) for name in first.numbers},
        lists={name: joined([part.lists[name] for part in parts]) for name in first.lists},
    )


def joined(parts: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any]]:
    """Return sequences of n lists as one, whose i-th list is made of all i-th ones."""
    return [list(chain.from_iterable(same)) for same in zip(*parts, strict=True)]


class Collected:
    """Rows of one victim (of a control, of one draw) as they come in, image by image: numbers take eight bytes each."""

    def __init__(self, first: Row) -> None:
        self.keys: list[str] = []
        self.groups: list[Any] = []
        names = [name for name, value in first.items() if name not in _ABOUT and not isinstance(value, str)]
        self._lists: dict[str, list[list[Any]]] = {name: [] for name in names if isinstance(first[name], list)}
        self._numbers = {name: array("d") for name in names if name not in self._lists}
        self._victim = first["victim"]

    def add(self, row: Row) -> None:
        """Take the numbers and lists of a row; None becomes NaN."""
        self.keys.append(row["image"])
        self.groups.append(row["group"])
        for name, numbers in self._numbers.items():
            value = row[name]
            numbers.append(np.nan if value is None else value)
        for name, lists in self._lists.items():
            lists.append([row[name]])

    @property
    def images(self) -> Images:
        """Return what has come in, measured once each."""
        numbers = {name: np.frombuffer(values)[:, None] for name, values in self._numbers.items()}
        return Images(self.keys, self.groups, numbers, self._lists, self._victim)
