"""How far one victim is above another on the same images: victims whose intervals overlap can still differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rtok.results.columns import Column
from rtok.results.estimates import as_columns, difference
from rtok.results.rows import Row
from rtok.results.summary import Measured

BASELINE = ("victim", "threat", "defense", "kind", "head_features")  # `baseline_victim`, ... in a row


def paired_differences(measured: Sequence[Measured], columns: Sequence[Column]) -> list[Row]:
    """Per robust victim and threat: robust minus its baselines, on the same images.

    The baselines: the plain model (where it was not attacked under that threat, under `transfer`, which for the public
    model is the white-box attack); the random control of the same kind and token count under the same attack, and the
    first robust victim, both with a head like its own: the public one, or one fitted on the victim's own features.
    `ci95` holds the intervals of the differences at 95 %, `sign_flip_p` exact p-values below ten clusters.

    Args:
        columns: the columns of `results.json` to compare.
    """
    return [
        {**one.who.columns(), **compared(one, other, columns)}
        for one in measured
        if one.who.victim == "robust"
        for other in baselines(one, measured)
    ]


def baselines(one: Measured, groups: Sequence[Measured]) -> Iterator[Measured]:
    """The victims that a robust one is compared with."""

    def first(victim: str, **wanted: Any) -> list[Measured]:
        wanted |= {"victim": victim}
        matching = (other for other in groups if all(getattr(other.who, k) == wanted[k] for k in wanted))
        return list(matching)[:1]

    same = {key: getattr(one.who, key) for key in ("setting_key", "head_features")}
    yield from first("random", kind=one.who.kind, n=one.who.n, **same)
    attack = one.who.attack
    yield from first("plain", attack=attack, threat=one.who.threat) or first("plain", attack=attack, threat="transfer")
    for other in first("robust", **same):
        if other is not one:
            yield other


def compared(one: Measured, other: Measured, columns: Sequence[Column]) -> Row:
    """How far `one` is above `other` in `columns`, and what `other` is."""
    there = set(other.images.keys)
    both = [key for key in one.images.keys if key in there]
    found = {column.key: difference(column, one.images.at(both), other.images.at(both)) for column in columns}
    return {
        **{f"baseline_{key}": getattr(other.who, key) for key in BASELINE},
        **as_columns(found),
        "sign_flip_p": {key: one.p for key, one in found.items()},
    }
