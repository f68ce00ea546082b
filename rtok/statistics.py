"""Confidence intervals, all two-sided at 95 %.

Images are often not independent (crops of one photo, for example), so intervals of means are clustered by group.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np

LEVEL = 0.95
_UPPER = 0.5 + LEVEL / 2
_CHUNK = 2_000_000  # indices that one chunk of bootstrap samples may hold: 16 MB


def mean_interval(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of `values`, clustered by `groups`; `None` for fewer than two groups.

    The mean of n values in G clusters is a ratio of cluster totals. Its linearized, cluster-robust variance is
    `G / (G - 1) * sum_g (sum_{i in g} (y_i - mean))^2 / n^2`, and the interval is Student's t with G - 1 degrees of
    freedom (Cameron & Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference", sections II and VI). With one
    value per group it is the textbook interval of a mean. It is not clipped to the range of the values.

    Raises ValueError when the two lengths differ.
    """
    from scipy.special import stdtrit

    totals, sizes = _cluster_totals(np.asarray(values, dtype=np.float64), groups)
    count, n = len(totals), sizes.sum()
    if count < 2:
        return None
    mean = totals.sum() / n
    residuals = totals - sizes * mean
    error = sqrt(count / (count - 1) * float(residuals @ residuals)) / n
    margin = stdtrit(count - 1, _UPPER) * error
    return float(mean - margin), float(mean + margin)


def wilson(successes: float, n: int) -> tuple[float, float] | None:
    """Return Wilson's 95 % score interval (Wilson 1927) for `successes` among `n`; `None` if `n` is 0.

    Unlike the normal approximation it stays in [0, 1] and is valid at 0 % and 100 %. It assumes n independent trials;
    `successes` need not be an integer (it may be a mean over draws of tokens). Raises ValueError unless
    0 <= successes <= n.
    """
    from scipy.special import ndtri

    if not 0 <= successes <= n:
        raise ValueError(f"wilson: {successes} successes among {n}")
    if n == 0:
        return None
    z2 = float(ndtri(_UPPER)) ** 2
    center = (successes + z2 / 2) / (n + z2)
    margin = sqrt(z2 * (successes * (n - successes) / n + z2 / 4)) / (n + z2)
    low = 0.0 if successes == 0 else center - margin
    high = 1.0 if successes == n else center + margin
    return low, high


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], groups: Sequence[Hashable], seed: int = 0, resamples: int = 2000
) -> tuple[float, float | None, float | None]:
    """Return `mean(a) - mean(b)` and its 95 % interval for two victims measured on the same images.

    A cluster bootstrap: whole groups are resampled with replacement, the victims' values stay paired, and the interval
    is from the 2.5 % to the 97.5 % quantile of the resampled differences. `low` and `high` are `None` for fewer than
    two groups. The result depends on the arguments alone, `seed` included.

    Raises ValueError when the lengths differ or there are no values.
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"paired values: there are {len(a)} and {len(b)}")
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    totals, sizes = _cluster_totals(difference, groups)
    count = len(totals)
    observed = float(totals.sum() / sizes.sum())
    if count < 2:
        return observed, None, None

    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // count)
    resampled = np.empty(resamples)
    for start in range(0, resamples, chunk):
        chosen = generator.integers(count, size=(min(chunk, resamples - start), count))
        resampled[start : start + chunk] = totals[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.quantile(resampled, [1 - _UPPER, _UPPER])
    return observed, float(low), float(high)


def _cluster_totals(values: np.ndarray, groups: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Return each group's sum of values and number of values, (G,) each, in order of first appearance."""
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} values for {len(groups)} groups")
    numbers: dict[Hashable, int] = {}
    membership = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
    return np.bincount(membership, weights=values), np.bincount(membership).astype(np.float64)
