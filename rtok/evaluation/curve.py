"""The robustness curve's files: `curve.csv` and `curve.png`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtok.results.columns import Column
from rtok.results.rows import KEYS, Row
from rtok.results.summary import write_csv


def write_curve(rows: Sequence[Row], column: Column, out: Path) -> None:
    """Write a column with its interval, one line per victim, threat and radius, and draw it."""
    from rtok.reporting.figures.robustness import robustness_curve

    key, lines = column.key, []
    for row in rows:
        low, high = row["ci95"].get(key) or (None, None)
        who = {name: row[name] for name in (*KEYS, "draws", "images")}
        lines.append({**who, key: row[key], f"{key}_low": low, f"{key}_high": high})
    write_csv(out / "curve.csv", lines)
    robustness_curve(rows, out / "curve.png", column)
