"""Intervals of shares against published and independent computations."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from rtok.statistics import mean_interval, share_difference_interval, share_interval
from rtok.statistics.shares import newcombe_bounds, wilson_bounds


def wilson(successes, n):
    return tuple(map(float, wilson_bounds(np.asarray(successes / n), np.asarray(n))))


def newcombe(both, first, second, n):
    shares = (np.asarray(count / n) for count in (both, first, second))
    return tuple(map(float, newcombe_bounds(*shares, np.asarray(n), n)))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (1, 1), (37, 50), (499, 1000)])
def test_wilson_is_scipys(successes, n):
    from scipy.stats import binomtest

    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    ones = [1.0] * successes + [0.0] * (n - successes)
    assert share_interval(ones, range(n)) == pytest.approx(wilson(successes, n))


def test_without_trials_there_is_none():
    assert share_interval([], []) is None and share_difference_interval([], [], []) is None


# Counts of both, first only, second only, neither, and the "Newcombe square-and-add" intervals that Fagerland,
# Lydersen & Laake (2014, "Recommended tests and confidence intervals for paired binomial proportions") give for them.
PUBLISHED = [((1, 1, 7, 12), (-0.507, -0.026)), ((59, 6, 16, 80), (-0.119, -0.005))]


@pytest.mark.parametrize(("table", "expected"), PUBLISHED)
def test_newcombe_is_the_published_one(table, expected):
    both, first, second, neither = table
    found = newcombe(both, first, second, sum(table))
    assert found == pytest.approx(expected, abs=6e-4)
    a = [1.0] * (both + first) + [0.0] * (second + neither)
    b = [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither
    assert share_difference_interval(a, b, range(sum(table))) == pytest.approx(found)
    assert share_difference_interval(b, a, range(sum(table))) == pytest.approx((-found[1], -found[0]))


def test_newcombe_is_narrower_than_without_pairing():
    """His method 10 without correlation: the square-and-add interval of independent shares."""
    (low_a, high_a), (low_b, high_b) = wilson(70, 100), wilson(60, 100)
    apart = 0.1 - sqrt((0.7 - low_a) ** 2 + (high_b - 0.6) ** 2), 0.1 + sqrt((high_a - 0.7) ** 2 + (0.6 - low_b) ** 2)
    assert newcombe(42, 28, 18, 100) == pytest.approx(apart)  # as many agree as by chance
    low, high = newcombe(58, 12, 2, 100)
    assert apart[0] < low < high < apart[1]


def test_clusters_of_equal_images_count_once_at_most():
    hits = np.array([1.0, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    alike = share_interval(np.repeat(hits, 4), np.repeat(range(10), 4).tolist())
    alone = share_interval(hits, range(10))
    assert alike[1] - alike[0] >= alone[1] - alone[0]
    mixed = np.random.default_rng(0).permutation(np.repeat(hits, 4))
    apart = share_interval(mixed, np.repeat(range(10), 4).tolist())
    assert apart[1] - apart[0] < 0.8 * (alike[1] - alike[0])


def test_a_design_effect_and_its_degrees_of_freedom_by_hand():
    """Ten clusters of four: the effective number is 40 / effect * (t_39 / t_9)^2."""
    from scipy.stats import t

    counts = np.array([4, 0, 3, 4, 1, 2, 4, 0, 3, 2])
    values = [float(i < count) for count in counts for i in range(4)]
    share = counts.sum() / 40
    effect = (counts / 4).var(ddof=1) / 10 / (share * (1 - share) / 39)
    n = 40 / effect * (t.ppf(0.975, 39) / t.ppf(0.975, 9)) ** 2
    assert share_interval(values, np.repeat(range(10), 4).tolist()) == pytest.approx(wilson(share * n, n))


def test_never_narrower_than_for_independent_images():
    values, groups = [1.0, 0.0] * 20, np.repeat(range(20), 2).tolist()  # every cluster has one hit and one miss
    assert share_interval(values, groups) == pytest.approx(wilson(20, 40))


@pytest.mark.parametrize("hits", [0.0, 1.0])
def test_where_all_agree_each_cluster_counts_as_one(hits):
    groups = np.repeat(range(6), 5).tolist()
    assert share_interval([hits] * 30, groups) == pytest.approx(wilson(6 * hits, 6))
    assert share_difference_interval([hits] * 30, [hits] * 30, groups) == pytest.approx(newcombe(6 * hits, 0, 0, 6))
    assert share_interval([hits, hits], ["a", "a"]) == pytest.approx(wilson(hits, 1))
    low, high = share_difference_interval([hits], [hits], ["a"])
    assert low < 0 < high


def test_pairs_agreeing_half_right_have_a_width():
    hits = [1.0, 0.0] * 25
    low, high = share_difference_interval(hits, hits, range(50))
    assert -0.06 < low < -0.02 and high == pytest.approx(-low)


def test_shares_over_draws_have_students_interval_within_the_range():
    hits = (np.random.default_rng(1).random((12, 5)) < [0.5, 0.9, 0.3, 0.6, 0.7]) * 1.0
    assert share_interval(hits, range(12)) == pytest.approx(mean_interval(hits, range(12), (0.0, 1.0)))
    assert share_interval(np.ones((6, 3)), range(6)) == pytest.approx((0.05 ** (1 / 6), 1.0))
    low, high = share_difference_interval(np.ones(12), hits, range(12))
    expected = mean_interval(1 - hits, range(12))
    assert (low, high) == pytest.approx((expected[0], min(expected[1], 1.0)))
