"""What seeds of one training say together, in sentences: the `methods` of `results.json`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rtok.reporting.differences import gain
from rtok.results.columns import Column
from rtok.results.rows import Identity, Row, interval_of
from rtok.results.words import capital, counted, detailed, with_interval


def over_seeds(methods: Sequence[Row], columns: Iterable[Column]) -> list[str]:
    """Say per method and threat its main number, how far its seeds differ, and how far it is above its baselines."""
    column = next(column for column in columns if column.main)
    heads, kinds, counts = (len({row.get(key) for row in methods}) > 1 for key in ("head_features", "kind", "n"))
    several = heads, kinds, counts
    return [_sentence(row, column, *several) for row in methods if row.get(column.key) is not None]


def _sentence(row: Row, column: Column, heads: bool, kinds: bool, counts: bool) -> str:
    who, key = Identity.of(row), column.key
    details = [who.kind] if kinds and who.kind is not None else []
    details += [counted(who.n, "token")] if counts and who.n is not None else []
    details += [f"{who.head_features} head"] if heads and who.head_features is not None else []
    victim = detailed(f"robust over {counted(row['seeds'], 'seed')}", details)
    number = with_interval(row[key], interval_of(row, key), column.digits)
    spread = f"standard deviation over seeds {row['std'][key]:.{column.digits}f}" if key in row["std"] else ""
    gains = [gain(other, key, {}) for other in row["differences"] if other.get(key) is not None]
    parts = "; ".join(filter(None, [number, spread, *gains]))
    return f"{capital(column.title)} under {who.threat_label}, {victim}: {parts}."
