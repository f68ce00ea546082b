"""From per-image rows to `results.json` and `per_image.csv`."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
# What tells one row of results.json from another. `draw` is not among them: the control is the mean over its draws.
IDENTITY = (
    "attack",
    "threat",
    "surrogate",
    "victim",
    "tokens",
    "n",
    "head_features",
    "norm",
    "eps",
    "units",
    "eps_pixel",
    "steps",
    "restarts",
    "queries",
    "start",
    "seed",
)


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


def by_victim(rows: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    """Group per-image rows by `IDENTITY`, the control's draws averaged: what a group is, and its rows."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in IDENTITY), []).append(row)
    found = []
    for identity, members in groups.items():
        draws = {row["draw"] for row in members}
        who = dict(zip(IDENTITY, identity, strict=True)) | {"draws": None if None in draws else len(draws)}
        found.append((who, mean_over_draws(members) if len(draws) > 1 else members))
    return found


def summarise(rows: Sequence[Row], summary: Callable[[Sequence[Row]], Row]) -> list[Row]:
    """One row per attack, threat, surrogate, victim, token file and head, in order of first appearance."""
    return [{**who, "images": len(members), **summary(members)} for who, members in by_victim(rows)]


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
            if isinstance(value, float) and name not in IDENTITY:
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
