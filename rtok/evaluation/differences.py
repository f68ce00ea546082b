"""What one victim has over another on the same images, with intervals: means that overlap can still differ surely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rtok.evaluation.results import Row, by_victim
from rtok.statistics import paired_bootstrap

# What tells one attack under one threat from another.
_SETTING = ("attack", "threat", "norm", "eps", "units", "queries", "start")


def paired_differences(rows: Sequence[Row], columns: Mapping[str, str]) -> list[Row]:
    """Per robust victim and threat: robust minus its baselines, image by image.

    The baselines: the plain model (where it was not attacked under that threat, under `transfer`, which for the public
    model is the white-box attack); the random control of the same token count; the first robust victim. `ci95` holds
    cluster-bootstrap intervals at 95 % (None below two clusters).

    Args:
        columns: the columns of `results.json` to compare, and the per-image columns that they are means of.
    """
    groups = by_victim(rows)
    found = []
    for who, members in groups:
        if who["victim"] != "robust":
            continue
        for other, others in _baselines(who, groups):
            row = {key: who[key] for key in (*_SETTING, "victim", "tokens", "n", "head_features")}
            row |= {f"baseline_{key}": other[key] for key in ("victim", "threat", "tokens", "head_features")}
            found.append({**row, **_compared(members, others, columns)})
    return found


def _baselines(who: Row, groups: Sequence[tuple[Row, list[Row]]]) -> Iterator[tuple[Row, list[Row]]]:
    def first(wanted: Row) -> list[tuple[Row, list[Row]]]:
        same = {"attack": who["attack"], "threat": who["threat"], **wanted}
        return [group for group in groups if all(group[0][key] == same[key] for key in same)][:1]

    yield from first({"victim": "random", "n": who["n"]})
    yield from first({"victim": "plain"}) or first({"victim": "plain", "threat": "transfer"})
    for other in first({"victim": "robust", **{key: who[key] for key in _SETTING}}):
        if other[0] != who:
            yield other


def _compared(members: Sequence[Row], others: Sequence[Row], columns: Mapping[str, str]) -> Row:
    there = {row["image"]: row for row in others}
    result: Row = {}
    intervals: dict[str, list[float] | None] = {}
    for name, column in columns.items():
        pairs = [(row, there[row["image"]]) for row in members if row["image"] in there]
        known = [(a, b) for a, b in pairs if a[column] is not None and b[column] is not None]
        result[name], intervals[name] = None, None
        if known:
            groups = [a["group"] for a, _ in known]
            mean, low, high = paired_bootstrap(
                [a[column] for a, _ in known], [b[column] for _, b in known], groups
            )
            result[name] = mean
            intervals[name] = None if low is None or high is None else [low, high]
    return {**result, "ci95": intervals}
