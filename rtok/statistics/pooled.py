"""Intervals of what one sum over the data set gives, such as the IoU of one confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np

from rtok.statistics.spread import Clusters, Draws, Floats, Interval, Limits, Spread

RESAMPLES = 1000  # the standard error of their standard deviation is 2 %
Statistic = Callable[[Floats], Floats]


def pooled_interval(
    statistic: Statistic, values: Floats, groups: Sequence[Hashable], limits: Limits, minus: Floats | None = None
) -> Interval | None:
    """Return the 95 % interval of `statistic` of the sum over images, or of a difference; `None` below two groups.

    A cluster bootstrap: whole groups are drawn with replacement, the same for both sides. Student's t with the
    bootstrap's standard error, times sqrt(G / (G - 1)), the small-sample correction (Davison & Hinkley 1997, section
    2.5; Hesterberg 2015, "narrowness bias"): quantiles of resamples reach too short with few clusters. Limits,
    skewness and repetitions are treated as in `mean_interval`.

    Args:
        statistic: from sums (..., *shape) to (...), NaN where there is nothing to measure; draws are averaged.
        values: (D, G, *shape), each group's sums, in order of first appearance, for D draws or seeds.
        groups: each image's group.
        limits: the range of the statistic.
        minus: the other victim's (E, G, *shape).
    """
    clusters = Clusters.of(groups)
    if len(clusters) < 2:
        return None
    width = limits[1] - limits[0]
    estimates, resampled, draws = [], [], []
    for part in [values] if minus is None else [values, minus]:
        sums = np.moveaxis(np.tensordot(_resamples(len(clusters)), part, (1, 1)), 0, 1)  # (D, R, *shape)
        seen, again = statistic(part.sum(1)), statistic(sums)
        estimates.append(seen.mean())
        resampled.append(again.mean(0))
        if len(part) > 1:
            draws.append(_draws(seen, again, _correction(clusters)))
    estimate = estimates[0] if minus is None else estimates[0] - estimates[1]
    found = resampled[0] if minus is None else resampled[0] - resampled[1]
    found = found[np.isfinite(found)]
    if not np.isfinite(estimate) or not len(found):
        return None
    off = found - found.mean()
    moments = (off**2).mean() * _correction(clusters), (off**3).mean() * _correction(clusters) ** 1.5
    return Spread.combine(estimate, moments, clusters, draws).interval(limits if minus is None else (-width, width))


def _draws(seen: Floats, resampled: Floats, correction: float) -> Draws:
    """What repetitions add, from their values (D,) and their values in every resample (D, R)."""
    count = len(seen)
    apart = resampled - resampled.mean(0)
    interaction = np.nanvar(apart, axis=1).sum() * correction / (count * (count - 1))
    return Draws(count, seen.var(ddof=1) / count, interaction)


def _correction(clusters: Clusters) -> float:
    """How much smaller the variance of resamples is than that of samples: (G - 1) / G, inverted."""
    return len(clusters) / (len(clusters) - 1)


@lru_cache(maxsize=4)
def _resamples(clusters: int) -> Floats:
    """Return how often each cluster is in each resample, (R, G): a function of their number alone."""
    generator = np.random.default_rng(0)
    return generator.multinomial(clusters, [1 / clusters] * clusters, size=RESAMPLES).astype(np.float64)
