"""How well a mean is known: its standard error from clusters of images, and from draws or seeds beside them.

Everything here works on many samples at once: leading axes (...) are samples, which share their clusters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
UPPER = 0.5 + LEVEL / 2
Floats = NDArray[np.float64]
Interval = tuple[float, float]
Limits = tuple[float, float]
# Values are single-precision numbers: what differs by less than this share of its size is equal but for rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Clusters:
    """Which cluster each image belongs to.

    Attributes:
        membership: (n,), a number per image, in order of first appearance.
    """

    membership: NDArray[np.int64]

    @classmethod
    def of(cls, groups: Sequence[Hashable]) -> Clusters:
        """Number the groups."""
        numbers: dict[Hashable, int] = {}
        return cls(np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def sizes(self) -> Floats:
        """Images per cluster, (G,)."""
        return np.bincount(self.membership).astype(np.float64)

    @cached_property
    def shares(self) -> Floats:
        """Each cluster's share of the images, (G,)."""
        return self.sizes / self.sizes.sum()

    @cached_property
    def effective(self) -> float:
        """The number of clusters of equal size that weigh as much (Kish 1965): G where sizes are equal."""
        return float(1 / (self.shares**2).sum())

    @cached_property
    def df(self) -> float:
        """The degrees of freedom of the variance that `Spread.of` computes; G - 1 for clusters of equal size.

        Satterthwaite's approximation for independent images, in closed form (Bell & McCaffrey 2002, "Bias Reduction in
        Standard Errors for Linear Regression with Multi-Stage Samples"; Pustejovsky & Tipton 2018).
        """
        w = self.shares
        cross = w**2 / (1 - w)
        return float(1 / ((w**2).sum() + cross.sum() ** 2 - (cross**2).sum()))

    def totals(self, values: Floats) -> Floats:
        """Add up values (..., n, D) per cluster: (..., G, D)."""
        order = np.argsort(self.membership, kind="stable")
        starts = np.searchsorted(self.membership[order], np.arange(len(self)))
        return np.add.reduceat(values[..., order, :], starts, axis=-2)


@dataclass(frozen=True)
class Draws:
    """What repetitions on the same images (draws of the control, seeds) add to the variance of their mean.

    The mean over D repetitions of G clusters varies with the clusters, with the repetitions, and with how they go
    together. The variance over clusters holds the first and the last; this is the second: `of_means` less the
    `interaction` that it holds too (two-way analysis of variance; Cameron, Gelbach & Miller 2011, "Robust Inference
    With Multiway Clustering", subtract the same).

    Attributes:
        count: D.
        of_means: (...), the variance of the mean of the repetitions' means.
        interaction: (...), the interaction's part in it.
    """

    count: int
    of_means: Floats
    interaction: Floats

    @property
    def variance(self) -> Floats:
        """What is added, (...); never negative."""
        return np.maximum(0.0, self.of_means - self.interaction)

    def uncertainty(self, df: float) -> Floats:
        """Squares over degrees of freedom, as Satterthwaite's formula adds them; `df` is that of the clusters."""
        squares = (self.of_means**2 + self.interaction**2 / df) / (self.count - 1)
        return np.where(self.variance > 0, squares, 0.0)


@dataclass(frozen=True)
class Spread:
    """A mean and how well it is known.

    Attributes:
        mean: (...), of all values.
        variance: (...), of the mean.
        df: (...), degrees of freedom of the variance.
        skewness: (...), the estimated third standardized moment of the mean.
        clusters: the effective number of clusters.
    """

    mean: Floats
    variance: Floats
    df: Floats
    skewness: Floats
    clusters: float

    @classmethod
    def combine(
        cls, mean: Floats, moments: tuple[Floats, Floats], clusters: Clusters, draws: Sequence[Draws]
    ) -> Spread:
        """Add the variance that draws bring to the clusters' second and third central `moments` of the mean."""
        second, third = moments
        variance = second + sum(part.variance for part in draws)
        known = second**2 / clusters.df + sum(part.uncertainty(clusters.df) for part in draws)
        df = np.divide(variance**2, known, out=np.full_like(variance, clusters.df), where=known > 0)
        skewness = np.divide(third, variance**1.5, out=np.zeros_like(variance), where=variance > 0)
        return cls(mean, variance, df, skewness, clusters.effective)

    @classmethod
    def of(cls, clusters: Clusters, values: Floats, minus: Floats | None = None) -> Spread:
        """Measure the mean of `values` (..., n, D), or of its difference to the mean of `minus` (..., n, E).

        A mean over clusters of several sizes is a ratio of totals. Its variance is linearized and robust to any
        dependence inside clusters, with the correction that makes it unbiased for independent images (CR2: Bell &
        McCaffrey 2002; Cameron & Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference", section VI). With
        one value per cluster it is the textbook variance. There must be two clusters at least.
        """
        n = clusters.sizes.sum()
        scale = 1 / (n * np.sqrt(1 - clusters.shares))
        sums = [clusters.totals(part) for part in ([values] if minus is None else [values, minus])]
        total = sums[0].mean(-1) if minus is None else sums[0].mean(-1) - sums[1].mean(-1)
        mean = total.sum(-1) / n
        influence = (total - clusters.sizes * mean[..., None]) * scale
        draws = [_draws(part, clusters, scale) for part in sums if part.shape[-1] > 1]
        return cls.combine(mean, ((influence**2).sum(-1), (influence**3).sum(-1)), clusters, draws)

    def bounds(self, limits: Limits) -> tuple[Floats, Floats]:
        """Return Student's interval, widened for skewness and cut off at the range of the quantity; NaN for none.

        Means of skewed data err towards the short tail: there a plain t interval of few clusters covers less than it
        says. The first term of the Edgeworth expansion of the studentized mean (Hall 1992, "The Bootstrap and
        Edgeworth Expansion", section 2.6) moves its quantile t by skewness (2 t^2 + 1) / 6; the bound on the side of
        the long tail moves so far out, the other one stays.

        Where all clusters have the same value, every distribution that would show this in more than 5 % of samples is
        taken into account: the share p of other values is then at most 1 - 0.05^(1 / clusters), as in the rule of
        three (Hanley & Lippman-Hand 1983), and they may lie anywhere in the range. Without a range there is none.
        """
        from scipy.special import stdtrit

        low, high = limits
        error, t = np.sqrt(self.variance), stdtrit(self.df, UPPER)
        shift = self.skewness * (2 * t**2 + 1) / 6
        below = np.maximum(low, self.mean - (t + np.maximum(0.0, -shift)) * error)
        above = np.minimum(high, self.mean + (t + np.maximum(0.0, shift)) * error)
        bounded = high - low < inf
        equal = error <= ROUNDING * (high - low if bounded else np.abs(self.mean))
        other = 1 - (1 - LEVEL) ** (1 / self.clusters) if bounded else np.nan
        return (
            np.where(equal, self.mean - other * (self.mean - low), below),
            np.where(equal, self.mean + other * (high - self.mean), above),
        )

    def interval(self, limits: Limits) -> Interval | None:
        """Return the `bounds` of one sample; None where there are none."""
        low, high = self.bounds(limits)
        return None if np.isnan(low) else (float(low), float(high))


def _draws(totals: Floats, clusters: Clusters, scale: Floats) -> Draws:
    """Take apart what cluster totals (..., G, D) say of the repetitions."""
    count, means = totals.shape[-1], totals.sum(-2, keepdims=True) / clusters.sizes.sum()
    own = totals - clusters.sizes[:, None] * means
    apart = (own - own.mean(-1, keepdims=True)) * scale[:, None]
    interaction = (apart**2).sum((-2, -1)) / (count * (count - 1))
    return Draws(count, means[..., 0, :].var(-1, ddof=1) / count, interaction)


def columns(values: ArrayLike, groups: Sequence[Hashable]) -> Floats:
    """Return values (n,) or (n, D) as (n, D); ValueError unless there are as many as groups."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) != len(groups):
        raise ValueError(f"{len(found)} values for {len(groups)} groups")
    return found[:, None] if found.ndim == 1 else found
