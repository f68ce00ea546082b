"""How far one victim is above another on the same images: victims whose intervals overlap can still differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rtok.results.columns import Column
from rtok.results.rows import Row
from rtok.results.summary import Intervals, Measured, by_victim
from rtok.statistics import paired_bootstrap

BASELINE = ("victim", "threat", "defense", "kind", "head_features")  # `baseline_victim`, ... in a row


def paired_differences(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Per robust victim and threat: robust minus its baselines, image by image.

    The baselines: the plain model (where it was not attacked under that threat, under `transfer`, which for the public
    model is the white-box attack); the random control of the same kind and token count; the first robust victim.
    `ci95` holds cluster-bootstrap intervals at 95 % (None below two clusters).

    Args:
        columns: the columns of `results.json` to compare.
    """
    groups = by_victim(rows)
    return [
        {
            **one.who.columns(),
            **{f"baseline_{key}": getattr(other.who, key) for key in BASELINE},
            **_compared(one, other, columns),
        }
        for one in groups
        if one.who.victim == "robust"
        for other in _baselines(one, groups)
    ]


def _baselines(one: Measured, groups: Sequence[Measured]) -> Iterator[Measured]:
    def first(victim: str, threat: str = one.who.threat, **wanted: Any) -> list[Measured]:
        wanted |= {"attack": one.who.attack, "threat": threat, "victim": victim}
        matching = (other for other in groups if all(getattr(other.who, k) == wanted[k] for k in wanted))
        return list(matching)[:1]

    yield from first("random", kind=one.who.kind, n=one.who.n)
    yield from first("plain") or first("plain", "transfer")
    for other in first("robust", setting_key=one.who.setting_key):
        if other is not one:
            yield other


def _compared(one: Measured, other: Measured, columns: Sequence[Column]) -> Row:
    there = {row["image"]: row for row in other.rows}
    pairs = [(row, there[row["image"]]) for row in one.rows if row["image"] in there]
    result: Row = {}
    intervals: Intervals = {}
    for key, column in ((column.key, column.per_image) for column in columns):
        known = [(a, b) for a, b in pairs if a[column] is not None and b[column] is not None]
        result[key], intervals[key] = None, None
        if known:
            groups = [a["group"] for a, _ in known]
            mean, low, high = paired_bootstrap([a[column] for a, _ in known], [b[column] for _, b in known], groups)
            result[key] = mean
            intervals[key] = None if low is None or high is None else [low, high]
    return {**result, "ci95": intervals}
