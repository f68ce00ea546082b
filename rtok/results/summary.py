"""From per-image rows to the rows of `results.json`."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rtok.files import atomic_path
from rtok.results.columns import COLUMNS
from rtok.results.estimates import as_columns, estimate
from rtok.results.images import Collected, Images, joined, side_by_side
from rtok.results.rows import ATTACK_KEYS, KEYS, SEEN, Identity, Row
from rtok.statistics import Floats


@dataclass(frozen=True)
class Measured:
    """What the images say of one victim under one attack.

    Attributes:
        draws: how many draws of the control there are; None for other victims.
        images: the images, measured once for each draw.
    """

    who: Identity
    draws: int | None
    images: Images

    @property
    def seen(self) -> int | None:
        """How many of the images the training of the defense saw; None where its file does not say."""
        known = self.images.numbers.get(SEEN, np.full((1, 1), np.nan))[:, 0]
        return None if np.isnan(known).all() else int(np.nansum(known))


def flat_rows(records: Iterable[Mapping[str, Any]], part: str = "rows") -> Iterator[Row]:
    """Return the rows of one part of the results, image by image, in the order of the records."""
    for record in records:
        for row in record["rows"]:
            if row["part"] == part:
                about = {"image": record["image"], "group": record["group"]}
                yield about | {name: value for name, value in row.items() if name != "part"}


def by_victim(rows: Iterable[Row]) -> list[Measured]:
    """Group per-image rows by their identity, in order of first appearance; only their numbers are kept."""
    found: dict[tuple[Any, ...], dict[int | None, Collected]] = {}
    for row in rows:
        draws = found.setdefault(tuple([row[key] for key in KEYS]), {})
        if row["draw"] not in draws:
            draws[row["draw"]] = Collected(row)
        draws[row["draw"]].add(row)
    return [
        Measured(
            Identity(*who), None if None in draws else len(draws), side_by_side([one.images for one in draws.values()])
        )
        for who, draws in found.items()
    ]


def summarize(measured: Iterable[Measured], summary: Callable[[Images], Row]) -> list[Row]:
    """One row per victim and attack; `summary` gives its numbers."""
    return [
        {**one.who.columns(), "draws": one.draws, "images": len(one.images), SEEN: one.seen, **summary(one.images)}
        for one in measured
    ]


def numbers(command: str, images: Images) -> Row:
    """Return the columns of a command for one victim, and their 95 % intervals as `ci95`; null for what is unknown.

    Draws of the control are one victim, not more images: their mean counts, and how they vary is in its interval.
    """
    return as_columns({column.key: estimate(column, images) for column in COLUMNS[command] if column.measured})


def over_attacks(measured: Iterable[Measured], name: str) -> list[Measured]:
    """Average each image's numbers over the attacks of a victim under a threat; `name` is the attack of the result."""
    blank: dict[str, Any] = {**dict.fromkeys(ATTACK_KEYS), "attack": name}
    groups: dict[Identity, list[Measured]] = {}
    for one in measured:
        groups.setdefault(replace(one.who, **blank), []).append(one)
    return [Measured(who, members[0].draws, _mean([one.images for one in members])) for who, members in groups.items()]


def _mean(parts: Sequence[Images]) -> Images:
    """Average numbers of the same images, and join their lists; what the first says is seen in training is so."""
    first = parts[0]
    parts = [part.at(first.keys) for part in parts]
    numbers = {name: _means([part.numbers[name] for part in parts]) for name in first.numbers}
    lists = {
        name: [joined(same) for same in zip(*(part.lists[name] for part in parts), strict=True)] for name in first.lists
    }
    seen = {SEEN: first.numbers[SEEN]} if SEEN in first.numbers else {}
    return replace(first, numbers={**numbers, **seen}, lists=lists)


def _means(values: Sequence[Floats]) -> Floats:
    """The means of several (n, D) to the last bit, in whatever order they come."""
    flat = zip(*(one.ravel().tolist() for one in values), strict=True)
    return np.array([statistics.fmean(same) for same in flat]).reshape(values[0].shape)


def write_csv(path: Path, rows: Iterable[Row], columns: Sequence[str] = ("image",)) -> None:
    """Write rows of equal columns as CSV, one after the other; None becomes an empty field.

    Columns of lists are left out. Without rows, `columns` is the header.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is not None:
        columns = [name for name, value in first.items() if not isinstance(value, list)]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(chain([] if first is None else [first], rows))
