"""How a column comes from the images, with its uncertainty: of one victim, or as a difference between two.

The one place that knows which estimator belongs to which kind of column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtok.results.columns import Column
from rtok.results.images import Images
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
    images = images.where(_known(column, images))
    if not len(images):
        return Estimate()
    if column.pooled is not None:
        sums = _sums(column, images)
        value = column.pooled(sums.sum(1)).mean()
        return _pooled(value, pooled_interval(column.pooled, sums, images.groups, column.limits))
    values = _values(column, images)
    if images.victim in column.exact:
        return Estimate(float(values.mean()))
    if column.mean == "share":
        return Estimate(float(values.mean()), share_interval(values, images.groups))
    return Estimate(float(values.mean()), mean_interval(values, images.groups, column.limits))


def difference(column: Column, one: Images, other: Images) -> Estimate:
    """Estimate how far one victim is above another; both have the same images in the same order."""
    known = _known(column, one) & _known(column, other)
    a, b = one.where(known), other.where(known)
    if not len(a):
        return Estimate()
    groups = a.groups
    if column.pooled is not None:
        sums, minus = _sums(column, a), _sums(column, b)
        value = column.pooled(sums.sum(1)).mean() - column.pooled(minus.sum(1)).mean()
        return _pooled(value, pooled_interval(column.pooled, sums, groups, column.limits, minus))
    first, second = _values(column, a), _values(column, b)
    if column.mean == "share":
        interval = share_difference_interval(first, second, groups)
    else:
        interval = difference_interval(first, second, groups, column.limits)
    return Estimate(float(first.mean() - second.mean()), interval, sign_flip_p(first, second, groups))


def _pooled(value: float, interval: Interval | None) -> Estimate:
    """Return an estimate; NaN is for images without a labeled pixel."""
    return Estimate() if np.isnan(value) else Estimate(float(value), interval)


def _known(column: Column, images: Images) -> NDArray[np.bool_]:
    """Whether each image counts (n,): in all of its repetitions."""
    known = np.ones(len(images), dtype=np.bool_)
    if column.among:
        known &= (images.numbers[column.among] == 1).all(1)
    if column.pooled is None:
        known &= ~np.isnan(images.numbers[column.per_image]).any(1)
    return known


def _values(column: Column, images: Images) -> Floats:
    """Values (n, D), rounding beyond the column's range cut off."""
    return np.clip(images.numbers[column.per_image], *column.limits)


def _sums(column: Column, images: Images) -> Floats:
    membership = Clusters.of(images.groups).membership
    return group_totals(images.lists[column.per_image], membership.tolist())
