"""From per-image rows to the rows of `results.json`."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtok.results.columns import Column
from rtok.results.rows import ATTACK_KEYS, KEYS, Identity, Row
from rtok.statistics import mean_interval, wilson

Intervals = dict[str, list[float] | None]


@dataclass(frozen=True)
class Measured:
    """The per-image rows of one victim under one attack; over several draws of the control each image's mean."""

    who: Identity
    draws: int | None
    rows: list[Row]


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
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    found = []
    for members in groups.values():
        draws = {row["draw"] for row in members}
        merged = mean_over_draws(members) if len(draws) > 1 else members
        found.append(Measured(Identity.of(members[0]), None if None in draws else len(draws), merged))
    return found


def summarize(rows: Sequence[Row], summary: Callable[[Sequence[Row]], Row]) -> list[Row]:
    """One row per identity, in order of first appearance; `summary` gives its numbers."""
    return [
        {**one.who.columns(), "draws": one.draws, "images": len(one.rows), **summary(one.rows)}
        for one in by_victim(rows)
    ]


def means(rows: Sequence[Row], columns: Iterable[Column]) -> tuple[Row, Intervals]:
    """Return the columns that are means over images, and their 95 % intervals.

    Images whose value is null are left out; a column is null where all are, or where there is no interval.
    """
    summary: Row = {}
    intervals: Intervals = {}
    for column in columns:
        if column.mean is None:
            continue
        known = [row for row in rows if row[column.per_image] is not None]
        values = [row[column.per_image] for row in known]
        summary[column.key] = statistics.fmean(values) if values else None
        if column.mean == "share":
            interval = wilson(sum(values), len(values))
        else:
            interval = mean_interval(values, [row["group"] for row in known]) if known else None
        intervals[column.key] = None if interval is None else list(interval)
    return summary, intervals


def mean_over_draws(rows: Sequence[Row]) -> list[Row]:
    """Average each image's numbers over the control's draws, and join its lists.

    The draws are one victim, not more images.
    """
    images: dict[str, list[Row]] = {}
    for row in rows:
        images.setdefault(row["image"], []).append(row)
    merged = []
    for members in images.values():
        row = dict(members[0])
        for name, value in members[0].items():
            if isinstance(value, float) and name not in KEYS:
                row[name] = statistics.fmean(member[name] for member in members)
            elif isinstance(value, list):
                row[name] = [part for member in members for part in member[name]]
        merged.append(row)
    return merged


def over_attacks(rows: Sequence[Row], name: str) -> list[Row]:
    """Average each image's numbers over the attacks of a victim under a threat; `name` is the attack of the result."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        who = tuple(row[key] for key in ("draw", *KEYS) if key not in ATTACK_KEYS)
        groups.setdefault(who, []).append(row)
    blank = {**dict.fromkeys(ATTACK_KEYS), "attack": name}
    return [{**row, **blank} for members in groups.values() for row in mean_over_draws(members)]


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
