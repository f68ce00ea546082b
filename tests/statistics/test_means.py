"""Intervals of means against independent formulas."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest

from rtok.statistics import Clusters, difference_interval, mean_interval
from rtok.statistics.spread import Spread

SIZES = [1, 4, 2, 6, 3, 2]
GROUPS = [f"photo{g}" for g, size in enumerate(SIZES) for _ in range(size)]
RANGE = (-1.0, 1.0)


def values(seed, *shape):
    return np.random.default_rng(seed).normal(size=(len(GROUPS), *shape))


def spread(known, minus=None, groups=GROUPS):
    return Spread.of(Clusters.of(groups), np.asarray(known), minus)


def bell_mccaffrey(y, groups):
    """CR2 variance and degrees of freedom of an intercept, from the matrices of Bell & McCaffrey (2002)."""
    n, names = len(y), sorted(set(groups))
    x = np.ones((n, 1))
    hat = x @ x.T / n
    weights, meat = np.zeros((n, len(names))), 0.0
    for g, name in enumerate(names):
        rows = np.array([group == name for group in groups])
        vectors = np.linalg.eigh((np.eye(n) - hat)[np.ix_(rows, rows)])
        adjust = vectors[1] @ np.diag(vectors[0] ** -0.5) @ vectors[1].T
        contrast = adjust @ x[rows] / n
        weights[:, g] = ((np.eye(n) - hat)[:, rows] @ contrast)[:, 0]
        meat += (weights[:, g] @ y) ** 2
    products = weights.T @ weights
    return meat, np.trace(products) ** 2 / (products**2).sum()


def test_the_variance_and_its_degrees_of_freedom_are_bell_and_mccaffreys():
    y = values(0)
    found = spread(y[:, None])
    assert (found.variance, found.df) == pytest.approx(bell_mccaffrey(y, GROUPS), rel=1e-10)
    assert found.mean == pytest.approx(y.mean()) and found.clusters == pytest.approx(18**2 / 70)


def test_symmetric_independent_values_have_students_interval():
    from scipy.stats import ttest_1samp

    half = np.array([0.3, 1.1, 2.0, 2.4])
    symmetric = np.concatenate([5 - half, [5.0], 5 + half])
    expected = ttest_1samp(symmetric, 0).confidence_interval(0.95)
    assert mean_interval(symmetric, range(9)) == pytest.approx((expected.low, expected.high))


def test_skewness_moves_the_bound_on_the_side_of_the_long_tail_alone():
    from scipy.stats import skew, t

    y = np.array([0.0, 0.1, 0.1, 0.2, 0.2, 1.9])
    quantile, error = t.ppf(0.975, 5), y.std(ddof=1) / sqrt(6)
    shift = skew(y) / sqrt(6) * (2 * quantile**2 + 1) / 6
    expected = y.mean() - quantile * error, y.mean() + (quantile + shift) * error
    assert mean_interval(y, range(6)) == pytest.approx(expected)
    assert mean_interval(-y, range(6)) == pytest.approx((-expected[1], -expected[0]))


def test_order_and_names_of_groups_do_not_matter():
    y = values(2)
    order = np.random.default_rng(3).permutation(len(y))
    shuffled = mean_interval(y[order], [GROUPS[i] for i in order])
    assert shuffled == pytest.approx(mean_interval(y, GROUPS), rel=1e-12)


def test_a_paired_difference_is_the_mean_of_differences():
    a, b = values(4), values(5)
    assert difference_interval(a, b, GROUPS) == pytest.approx(mean_interval(a - b, GROUPS))
    shared = values(6) * 10  # what both victims find hard does not blur their difference
    assert difference_interval(a + shared, b + shared, GROUPS) == pytest.approx(difference_interval(a, b, GROUPS))


def test_draws_add_what_images_do_not_explain():
    """Against the mean squares of a balanced two-way analysis of variance without replication."""
    y = np.random.default_rng(7).normal(size=(8, 1)) + np.random.default_rng(8).normal(size=(8, 5))
    y += np.array([0.0, 1.0, -1.0, 2.0, 0.5])
    G, D = y.shape
    rows, cols = y.mean(1, keepdims=True), y.mean(0, keepdims=True)
    of_rows = D * ((rows - y.mean()) ** 2).sum() / (G - 1)
    of_cols = G * ((cols - y.mean()) ** 2).sum() / (D - 1)
    rest = ((y - rows - cols + y.mean()) ** 2).sum() / (G - 1) / (D - 1)
    found = spread(y, groups=range(G))
    variance = (of_rows + of_cols - rest) / (G * D)
    assert found.variance == pytest.approx(variance)
    squares = of_rows**2 / (G - 1) + of_cols**2 / (D - 1) + rest**2 / (G - 1) / (D - 1)
    assert found.df == pytest.approx((of_rows + of_cols - rest) ** 2 / squares)


def test_draws_of_both_sides_count_and_equal_draws_add_nothing():
    a, b = values(9, 3) + np.array([0.0, 1.0, 2.0]), values(10, 4) + np.array([0.0, -1.0, 2.0, 1.0])
    both, one = spread(a, b), spread(a, b.mean(1, keepdims=True))
    neither = spread(a.mean(1, keepdims=True), b.mean(1, keepdims=True))
    assert both.variance > one.variance > neither.variance
    assert spread(a, b).variance == pytest.approx(spread(b, a).variance)
    same = np.repeat(values(11)[:, None], 3, axis=1)
    assert mean_interval(same, GROUPS) == pytest.approx(mean_interval(same[:, 0], GROUPS))


def test_bounds_stay_in_the_range():
    y = [0.99, 0.98, 0.2, 0.97, 0.99, 0.99]
    low, high = mean_interval(y, range(6), RANGE)
    assert high == 1.0 < mean_interval(y, range(6))[1]
    assert low == mean_interval(y, range(6))[0]
    assert difference_interval(y, np.negative(y), range(6), RANGE)[1] == 2.0
    assert mean_interval([1 + 1e-7, 1.0, 0.5], range(3), RANGE)[1] == 1.0  # rounding


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_equal_values_have_the_interval_of_what_may_have_been_missed(noise):
    """Not seen in 6 of 6: a share p of other values has (1 - p)^6 = 0.05, and they may be as far off as can be."""
    y = 0.5 + noise * np.arange(6)
    p = 1 - 0.05 ** (1 / 6)
    assert mean_interval(y, range(6), RANGE) == pytest.approx((0.5 - 1.5 * p, 0.5 + 0.5 * p), abs=1e-6)
    assert difference_interval(y, y, range(6), RANGE) == pytest.approx((-2 * p, 2 * p), abs=1e-6)
    twice = mean_interval(np.repeat(y, 2), np.repeat(range(6), 2).tolist(), RANGE)
    assert twice == pytest.approx(mean_interval(y, range(6), RANGE))
    assert mean_interval(y, range(6)) is None and mean_interval(y, range(6), (0.0, inf)) is None


@pytest.mark.parametrize(("known", "groups"), [([], []), ([0.5], ["a"]), ([0.1, 0.9], ["a", "a"])])
def test_two_groups_are_needed(known, groups):
    assert mean_interval(known, groups) is None
    assert difference_interval(known, known, groups) is None


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="3 values for 2 groups"):
        mean_interval([1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(ValueError, match="1 values for 2 groups"):
        difference_interval([1.0, 2.0], [3.0], ["a", "b"])
