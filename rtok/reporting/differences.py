"""What the defense gains, in sentences: the paired differences of `results.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rtok.results.columns import Column
from rtok.results.rows import Identity, Naming, Row, interval_of
from rtok.results.words import capital, with_interval


def gains(differences: Sequence[Row], columns: Iterable[Column], files: Mapping[str, str]) -> list[str]:
    """Say per threat, defense and head how far the robust model is above its baselines, with intervals.

    Args:
        columns: the table's; the first in which victims are compared is reported.
        files: short names of the defense files.
    """
    compared = (column for column in columns if column.paired)
    column = next((c for c in compared if any(isinstance(row.get(c.key), float) for row in differences)), None)
    if column is None:
        return []
    several = Naming.of(differences)
    naming = Naming(files, several.defenses, several.heads)
    victims: dict[Identity, list[Row]] = {}
    for row in differences:
        victims.setdefault(Identity.of(row), []).append(row)
    return [
        f"{capital(column.title)} under {who.threat_label}, {who.victim_label(naming)}: "
        f"{', '.join(gain(row, column.key, files) for row in rows)}."
        for who, rows in victims.items()
    ]


def gain(row: Row, key: str, files: Mapping[str, str]) -> str:
    """Say how far a victim is above a baseline: `+0.081 ± 0.020 over plain (sign-flip p 0.031)`."""
    start = "baseline_"
    other = Identity.of({name.removeprefix(start): row[name] for name in row if name.startswith(start)})
    words = {"random": "the random control", "plain": "plain"}
    baseline = words.get(other.victim) or other.victim_label(Naming(files))
    under = "" if other.threat == row["threat"] else f" under {other.threat}"
    p = (row.get("sign_flip_p") or {}).get(key)
    exact = "" if p is None else f" (sign-flip p {p:.2g})"
    return f"{with_interval(row[key], interval_of(row, key), sign='+')} over {baseline}{under}{exact}"
