"""Intervals of means, and of differences of means over the same images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from rtok.statistics.spread import Clusters, Interval, Limits, Spread, columns

UNLIMITED: Limits = (-inf, inf)


def mean_interval(values: ArrayLike, groups: Sequence[Hashable], limits: Limits = UNLIMITED) -> Interval | None:
    """Return the 95 % interval of the mean of `values`, clustered by `groups`; `None` for fewer than two groups.

    Student's t over cluster totals, with the degrees of freedom that the clusters' sizes leave (`Spread.of`), widened
    where the clusters are skewed (`Spread.bounds`). With one value per group and no skewness it is the textbook's.

    Args:
        values: (n,), or (n, D) for D draws or seeds measured on the same images, whose variation counts too.
        limits: the range of the quantity; needed where all values are equal, or there is no interval.

    Raises:
        ValueError: the two lengths differ.
    """
    known = np.clip(columns(values, groups), *limits)
    clusters = Clusters.of(groups)
    return Spread.of(clusters, known).interval(limits) if len(clusters) > 1 else None


def difference_interval(
    a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable], limits: Limits = UNLIMITED
) -> Interval | None:
    """Return the 95 % interval of `mean(a) - mean(b)` for two victims measured on the same images.

    As `mean_interval`, of the image by image differences; draws and seeds of either side count for themselves.

    Args:
        a, b: (n,), or (n, D) and (n, E).
        limits: the range of each of the two.

    Raises:
        ValueError: the lengths differ.
    """
    one, other = (np.clip(columns(side, groups), *limits) for side in (a, b))
    clusters, width = Clusters.of(groups), limits[1] - limits[0]
    return Spread.of(clusters, one, other).interval((-width, width)) if len(clusters) > 1 else None
