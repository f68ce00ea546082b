"""Intervals of shares of images, such as accuracies, and of their paired differences: score intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rtok.statistics.spread import UPPER, Clusters, Floats, Interval, Spread, columns


def share_interval(values: ArrayLike, groups: Sequence[Hashable]) -> Interval | None:
    """Return the 95 % interval of a share, clustered by `groups`; `None` without images.

    Wilson's with the effective number of images (`effective_number`); for independent images it is Wilson's own.
    Means over draws or seeds are not 0 or 1 any more: they have Student's interval, cut off at 0 and 1.

    Args:
        values: (n,) of 0 and 1, or (n, D) for D draws or seeds measured on the same images.

    Raises:
        ValueError: the two lengths differ.
    """
    known = columns(values, groups)
    return _single(share_bounds(Clusters.of(groups), known)) if len(known) else None


def share_difference_interval(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable]) -> Interval | None:
    """Return the 95 % interval of a difference of shares over the same images; `None` without images.

    Newcombe's with the effective number of pairs (`effective_number`); for independent images it is Newcombe's own.
    Means over draws or seeds have Student's interval, as in `share_interval`.

    Args:
        a, b: (n,) of 0 and 1, or (n, D) and (n, E).

    Raises:
        ValueError: the lengths differ.
    """
    one, other = columns(a, groups), columns(b, groups)
    return _single(share_difference_bounds(Clusters.of(groups), one, other)) if len(one) else None


def share_bounds(clusters: Clusters, values: Floats) -> tuple[Floats, Floats]:
    """The bounds (...) of `share_interval` for many samples (..., n, D) with the same clusters."""
    if values.shape[-1] > 1 and len(clusters) > 1:
        return Spread.of(clusters, values).bounds((0.0, 1.0))
    share = values.mean((-2, -1))
    return wilson_bounds(share, effective_number(clusters, share * (1 - share), values))


def share_difference_bounds(clusters: Clusters, a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The bounds (...) of `share_difference_interval` for many samples (..., n, D) and (..., n, E)."""
    if max(a.shape[-1], b.shape[-1]) > 1 and len(clusters) > 1:
        return Spread.of(clusters, a, b).bounds((-1.0, 1.0))
    one, other = a.mean(-1), b.mean(-1)
    both, first, second = (share.mean(-1) for share in (one * other, one * (1 - other), (1 - one) * other))
    n = effective_number(clusters, first + second - (first - second) ** 2, a, b)
    return newcombe_bounds(both, first, second, n, float(clusters.sizes.sum()))


def effective_number(clusters: Clusters, independent: Floats, values: Floats, minus: Floats | None = None) -> Floats:
    """Return how many independent images tell as much as these do; never more than there are.

    That which independent images would need for the same variance of the mean (Kish's design effect), with Korn &
    Graubard's (1998) correction for the degrees of freedom. Where all images agree, which says nothing of how alike a
    cluster's images are, and where there is one cluster only, each cluster counts as one image.

    Args:
        independent: (...), the variance of one image's value or difference, were images independent.
        values, minus: (..., n, D) and the other victim's (..., n, E).
    """
    from scipy.special import stdtrit

    n = clusters.sizes.sum()
    if len(clusters) < 2:
        return np.full(np.shape(independent), 1.0)
    spread = Spread.of(clusters, values, minus)
    known = independent * n > 1e-9  # one image of n that differs gives about 1
    effect = np.divide(spread.variance * (n - 1), independent, out=np.ones_like(independent), where=known)
    quantiles = (stdtrit(n - 1, UPPER) / stdtrit(spread.df, UPPER)) ** 2
    found = np.divide(n * quantiles, effect, out=np.full_like(effect, n), where=effect > 0)
    return np.where(known, np.minimum(found, n), clusters.effective)


def wilson_bounds(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's 95 % score interval (1927) of shares (...) of n (...), which need not be whole.

    Unlike the normal approximation it stays in [0, 1], and has a width also at 0 % and 100 %.
    """
    z2 = _z2()
    center = (share * n + z2 / 2) / (n + z2)
    margin = np.sqrt(z2 * (n * share * (1 - share) + z2 / 4)) / (n + z2)
    return np.where(share <= 0, 0.0, center - margin), np.where(share >= 1, 1.0, center + margin)


def newcombe_bounds(
    both: Floats, first: Floats, second: Floats, n: Floats, pairs: Floats | float
) -> tuple[Floats, Floats]:
    """The 95 % interval of differences of paired shares, first - second.

    Method 10 of Newcombe (1998, "Improved Confidence Intervals for the Difference Between Binomial Proportions Based on
    Paired Data"): Wilson's intervals of the two shares, combined with the correlation of the pairs. It stays in
    [-1, 1], and has a width also where no pair is discordant.

    Args:
        both, first, second: the shares (...) of pairs in which both succeed, or only one does.
        n: (...), the number of pairs, where those of a cluster count less than others.
        pairs: how many the correlation comes from: with `n` in its place, intervals of few clusters would be too wide.
    """
    a, b, difference = both + first, both + second, first - second
    (low_a, high_a), (low_b, high_b) = wilson_bounds(a, n), wilson_bounds(b, n)
    # The correlation of the pairs; a positive one gets a continuity correction, half of their number in counts.
    covariance = both - a * b
    covariance = np.where(covariance > 0, np.maximum(0.0, covariance - 0.5 / pairs), covariance)
    scale = np.sqrt(np.maximum(0.0, a * (1 - a) * b * (1 - b)))
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)

    def distance(one: Floats, other: Floats) -> Floats:
        return np.sqrt(np.maximum(0.0, one**2 - 2 * correlation * one * other + other**2))

    return difference - distance(a - low_a, high_b - b), difference + distance(high_a - a, b - low_b)


def _z2() -> float:
    """The square of the normal distribution's 97.5 % quantile."""
    from scipy.special import ndtri

    return float(ndtri(UPPER)) ** 2


def _single(bounds: tuple[Floats, Floats]) -> Interval:
    return float(bounds[0]), float(bounds[1])
