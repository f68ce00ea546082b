"""From per-image rows to the rows of `results.json`."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtok.results.columns import COLUMNS
from rtok.results.estimates import Images, as_columns, estimate
from rtok.results.rows import ATTACK_KEYS, KEYS, SEEN, Identity, Row


@dataclass(frozen=True)
class Measured:
    """What the images say of one victim under one attack.

    Attributes:
        draws: how many draws of the control there are; None for other victims.
        images: per image its rows, one for each draw.
    """

    who: Identity
    draws: int | None
    images: Images

    @property
    def seen(self) -> int | None:
        """How many of the images the training of the defense saw; None where its file does not say."""
        known = [rows[0][SEEN] for rows in self.images if rows[0].get(SEEN) is not None]
        return sum(known) if known else None


def flat_rows(records: Iterable[Mapping[str, Any]], order: Sequence[str], part: str = "rows") -> list[Row]:
    """Per-image rows of one part of the results in the data set's order, whatever order they were computed in."""
    place = {key: i for i, key in enumerate(order)}
    ordered = sorted(records, key=lambda record: place[record["image"]])
    return [
        {"image": r["image"], "group": r["group"], **{k: v for k, v in row.items() if k != "part"}}
        for r in ordered
        for row in r["rows"]
        if row["part"] == part
    ]


def by_victim(rows: Sequence[Row]) -> list[Measured]:
    """Group per-image rows by their identity, in order of first appearance."""
    groups: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEYS), {}).setdefault(row["image"], []).append(row)
    found = []
    for images in groups.values():
        first = next(iter(images.values()))
        draws = None if first[0]["draw"] is None else len(first)
        found.append(Measured(Identity.of(first[0]), draws, list(images.values())))
    return found


def summarize(rows: Sequence[Row], summary: Callable[[Images], Row]) -> list[Row]:
    """One row per identity, in order of first appearance; `summary` gives its numbers."""
    return [
        {**one.who.columns(), "draws": one.draws, "images": len(one.images), SEEN: one.seen, **summary(one.images)}
        for one in by_victim(rows)
    ]


def numbers(command: str, images: Images) -> Row:
    """Return the columns of a command for one victim, and their 95 % intervals as `ci95`; null for what is unknown.

    Draws of the control are one victim, not more images: their mean counts, and how they vary is in its interval.
    """
    return as_columns({column.key: estimate(column, images) for column in COLUMNS[command] if column.measured})


def over_attacks(rows: Sequence[Row], name: str) -> list[Row]:
    """Average each image's numbers over the attacks of a victim under a threat; `name` is the attack of the result."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        who = tuple(row[key] for key in ("draw", *KEYS) if key not in ATTACK_KEYS)
        groups.setdefault(who, []).append(row)
    blank = {**dict.fromkeys(ATTACK_KEYS), "attack": name}
    return [{**row, **blank} for members in groups.values() for row in _image_means(members)]


def _image_means(rows: Sequence[Row]) -> list[Row]:
    """Average each image's numbers, and join its lists."""
    images: dict[str, list[Row]] = {}
    for row in rows:
        images.setdefault(row["image"], []).append(row)
    merged = []
    for members in images.values():
        row = dict(members[0])
        for name, value in members[0].items():
            if isinstance(value, float | int) and not isinstance(value, bool) and name not in ("draw", *KEYS):
                row[name] = statistics.fmean(member[name] for member in members)
            elif isinstance(value, list):
                row[name] = [part for member in members for part in member[name]]
        merged.append(row)
    return merged


def to_csv(rows: Sequence[Row], columns: Sequence[str] = ("image",)) -> str:
    """Render rows of equal columns as CSV; None becomes an empty field, and columns of lists are left out.

    Without rows, `columns` is the header.
    """
    text = io.StringIO()
    shown = [name for name, value in rows[0].items() if not isinstance(value, list)] if rows else columns
    writer = csv.DictWriter(text, fieldnames=shown, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
