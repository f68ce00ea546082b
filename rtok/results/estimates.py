"""How a column comes from the images, with its uncertainty: of one victim, or as a difference between two.

The one place that knows which estimator belongs to which kind of column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rtok.results.columns import Column
from rtok.results.iou import group_totals
from rtok.results.rows import Row
from rtok.statistics import (
    Clusters,
    Floats,
    Interval,
    difference_interval,
    mean_interval,
    pooled_interval,
    share_difference_interval,
    share_interval,
    sign_flip_p,
)

Images = Sequence[Sequence[Row]]  # per image its rows, one for each draw of the control, or for each seed


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where there is nothing to measure, or no interval.

    Attributes:
        p: of a difference, the exact p-value of the sign-flip test, for two to nine clusters.
    """

    value: float | None = None
    interval: Interval | None = None
    p: float | None = None


def as_columns(found: Mapping[str, Estimate]) -> Row:
    """Return the numbers by column, and their intervals as `ci95`."""
    intervals = {key: None if one.interval is None else list(one.interval) for key, one in found.items()}
    return {**{key: one.value for key, one in found.items()}, "ci95": intervals}


def estimate(column: Column, images: Images) -> Estimate:
    """Estimate a column; images that it is null for are left out."""
    known = [rows for rows in images if _known(column, rows)]
    if not known:
        return Estimate()
    groups = [rows[0]["group"] for rows in known]
    if column.pooled is not None:
        sums = _sums(column, known, groups)
        value = column.pooled(sums.sum(1)).mean()
        return _pooled(value, pooled_interval(column.pooled, sums, groups, column.limits))
    values = _values(column, known)
    if known[0][0].get("victim") in column.exact:
        return Estimate(float(values.mean()))
    if column.mean == "share":
        return Estimate(float(values.mean()), share_interval(values, groups))
    return Estimate(float(values.mean()), mean_interval(values, groups, column.limits))


def difference(column: Column, one: Images, other: Images) -> Estimate:
    """Estimate how far one victim is above another; both have the same images in the same order."""
    known = [pair for pair in zip(one, other, strict=True) if all(_known(column, rows) for rows in pair)]
    if not known:
        return Estimate()
    a, b = ([pair[side] for pair in known] for side in (0, 1))
    groups = [rows[0]["group"] for rows in a]
    if column.pooled is not None:
        sums, minus = _sums(column, a, groups), _sums(column, b, groups)
        value = column.pooled(sums.sum(1)).mean() - column.pooled(minus.sum(1)).mean()
        return _pooled(value, pooled_interval(column.pooled, sums, groups, column.limits, minus))
    first, second = _values(column, a), _values(column, b)
    if column.mean == "share":
        interval = share_difference_interval(first, second, groups)
    else:
        interval = difference_interval(first, second, groups, column.limits)
    return Estimate(float(first.mean() - second.mean()), interval, sign_flip_p(first, second, groups))


def _pooled(value: float, interval: Interval | None) -> Estimate:
    """Return an estimate; NaN is for images without a labelled pixel."""
    return Estimate() if np.isnan(value) else Estimate(float(value), interval)


def _known(column: Column, rows: Sequence[Row]) -> bool:
    counts = not column.among or all(row[column.among] == 1 for row in rows)
    return counts and all(row[column.per_image] is not None for row in rows)


def _values(column: Column, images: Images) -> Floats:
    """Values (n, D), rounding beyond the column's range cut off."""
    return np.clip([[float(row[column.per_image]) for row in rows] for rows in images], *column.limits)


def _sums(column: Column, images: Images, groups: Sequence[object]) -> Floats:
    membership = Clusters.of(groups).membership
    return group_totals([[row[column.per_image] for row in rows] for rows in images], membership.tolist())
