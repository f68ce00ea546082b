"""The robustness curve's files: `curve.csv` and `curve.png`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtok.files import write_atomic
from rtok.results.summary import IDENTITY, Row, to_csv


def write_curve(rows: Sequence[Row], headline: str, out: Path) -> None:
    """Write the curve's headline with its interval, a line per victim, threat and radius, and draw it."""
    from rtok.reporting.figures.robustness import robustness_curve

    lines = []
    for row in rows:
        low, high = row["ci95"].get(headline) or (None, None)
        who = {key: row[key] for key in (*IDENTITY, "draws", "images")}
        lines.append({**who, headline: row[headline], f"{headline}_low": low, f"{headline}_high": high})
    write_atomic(out / "curve.csv", to_csv(lines))
    robustness_curve(rows, out / "curve.png", headline)
