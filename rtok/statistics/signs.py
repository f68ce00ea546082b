"""An exact test where clusters are too few for a normal approximation to be taken on trust."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rtok.statistics.spread import Clusters, columns

FEW = 10  # from so many clusters on the interval is enough; below, all 2^(G - 1) sign patterns are few too


def sign_flip_p(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable]) -> float | None:
    """Return the exact two-sided p-value of `mean(a) = mean(b)` over the same images; `None` unless 2 to 9 clusters.

    Under the null hypothesis that a cluster's total difference is as likely to have the other sign, every pattern of
    signs is as likely as the one seen: p is the share of patterns whose sum is at least as large (Fisher 1935; Canay,
    Romano & Shaikh 2017). It cannot be below 2^(1 - G): 0.03 for 6 clusters. Draws and seeds are averaged first.

    Args:
        a, b: (n,), or (n, D) and (n, E).
    """
    clusters = Clusters.of(groups)
    if not 2 <= len(clusters) < FEW:
        return None
    totals = clusters.totals(columns(a, groups)).mean(1) - clusters.totals(columns(b, groups)).mean(1)
    patterns = np.array(np.meshgrid(*[[1.0, -1.0]] * (len(totals) - 1))).reshape(len(totals) - 1, -1)
    sums = np.abs(totals[0] + totals[1:] @ patterns)
    seen = abs(totals.sum()) * (1 - 1e-9)  # sums in another order differ by rounding
    return float((sums >= seen).mean())
