"""What tokens bought, in sentences: the paired differences of `results.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rtok.reporting.labels import Row, capital, in_words


def gains(differences: Sequence[Row], keys: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Say per threat, token file and head how far the robust model is above its baselines, with intervals.

    Args:
        keys: the columns of the table, the headline first; the first that was compared is told. A headline that is no
            mean over images, such as the mIoU of a data set, is not compared.
        names: short forms of token files.
    """
    key = next((key for key in keys if any(isinstance(row.get(key), float) for row in differences)), None)
    if key is None:
        return []
    victims: dict[tuple[object, ...], list[Row]] = {}
    for row in differences:
        who = tuple(row.get(name) for name in ("threat", "queries", "start", "tokens", "head_features"))
        victims.setdefault(who, []).append(row)
    several = [len({row.get(name) for row in differences}) > 1 for name in ("tokens", "head_features")]
    return [
        f"{capital(in_words(key))} under {_setting(rows[0])}, robust{_name(rows[0], names, several)}: "
        f"{', '.join(_gain(row, key, names) for row in rows)}."
        for rows in victims.values()
    ]


def interval(value: float, bounds: Sequence[float] | None, digits: int = 3) -> str:
    """Return `+0.081 ± 0.020`, `+0.081 [+0.050, +0.090]` where that is lopsided, or the value alone."""
    text = f"{value:+.{digits}f}"
    if bounds is None:
        return text
    low, high = bounds
    if abs((high - value) - (value - low)) < 10.0**-digits:
        return f"{text} ± {(high - low) / 2:.{digits}f}"
    return f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _gain(row: Row, key: str, names: Mapping[str, str]) -> str:
    baseline = {"random": "the random control", "plain": "plain"}.get(row["baseline_victim"])
    if baseline is None:
        baseline = names.get(str(row["baseline_tokens"]), str(row["baseline_tokens"]))
        if row["baseline_head_features"] is not None:
            baseline += f" ({row['baseline_head_features']} head)"
    if row["baseline_threat"] != row["threat"]:
        baseline += f" under {row['baseline_threat']}"
    return f"{interval(row[key], (row.get('ci95') or {}).get(key))} over {baseline}"


def _setting(row: Row) -> str:
    if row.get("queries") is None:
        return str(row["threat"])
    return f"{row['threat']} ({row['queries']} queries, {row['start']})"


def _name(row: Row, names: Mapping[str, str], several: Sequence[bool]) -> str:
    parts = [names.get(str(row["tokens"]), str(row["tokens"]))] if several[0] else []
    parts += [f"{row['head_features']} head"] if several[1] else []
    return f" ({', '.join(parts)})" if parts else ""
