"""Intervals against independent formulas and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.statistics import mean_interval, paired_bootstrap, wilson


def sandwich_interval(values, groups):
    """Cluster-robust OLS on a constant, written as the matrix sandwich, as statsmodels computes it."""
    from scipy.stats import t

    y, names = np.asarray(values), sorted(set(groups))
    x = np.ones((len(y), 1))
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ y
    residuals = y - x @ beta
    meat = np.zeros((1, 1))
    for name in names:
        rows = np.array([group == name for group in groups])
        score = x[rows].T @ residuals[rows]
        meat += np.outer(score, score)
    count, n = len(names), len(y)
    covariance = bread @ meat @ bread * count / (count - 1) * (n - 1) / (n - 1)
    margin = t.ppf(0.975, count - 1) * np.sqrt(covariance[0, 0])
    return beta[0] - margin, beta[0] + margin


def clustered_sample(generator, groups=12, spread=1.0):
    sizes = generator.integers(1, 7, groups)
    labels = np.repeat(np.arange(groups), sizes)
    effects = generator.normal(0, spread, groups)
    return effects[labels] + generator.normal(0, 0.5, len(labels)), [f"photo{label}" for label in labels]


def test_mean_interval_is_the_cluster_sandwich():
    values, groups = clustered_sample(np.random.default_rng(0))
    np.testing.assert_allclose(mean_interval(values, groups), sandwich_interval(values, groups), rtol=1e-12)


def test_mean_interval_of_independent_values_is_students():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(1).normal(size=9)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_interval(values, range(9)), (expected.low, expected.high), rtol=1e-12)


def test_mean_interval_does_not_depend_on_order():
    values, groups = clustered_sample(np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(len(values))
    shuffled = mean_interval(values[order], [groups[index] for index in order])
    np.testing.assert_allclose(shuffled, mean_interval(values, groups), rtol=1e-12)


def test_mean_interval_covers_the_mean_where_the_independent_one_does_not():
    generator = np.random.default_rng(4)
    clustered = independent = 0
    for _ in range(600):
        values, groups = clustered_sample(generator, groups=15)
        low, high = mean_interval(values, groups)
        clustered += low <= 0 <= high
        low, high = mean_interval(values, range(len(values)))
        independent += low <= 0 <= high
    assert 0.90 <= clustered / 600 <= 0.98
    assert independent / 600 < 0.80


@pytest.mark.parametrize(("values", "groups"), [([], []), ([0.5], ["a"]), ([0.1, 0.9], ["a", "a"])])
def test_mean_interval_needs_two_groups(values, groups):
    assert mean_interval(values, groups) is None


def test_mean_interval_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="3 values for 2 groups"):
        mean_interval([1.0, 2.0, 3.0], ["a", "b"])


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (1, 1), (37, 50), (499, 1000)])
def test_wilson_is_scipys(successes, n):
    from scipy.stats import binomtest

    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(successes, n), (expected.low, expected.high), atol=1e-12)


def test_wilson_without_trials_is_none_and_impossible_counts_are_refused():
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="11 successes among 10"):
        wilson(11, 10)


def paired_sample(seed, groups=40):
    generator = np.random.default_rng(seed)
    base, labels = clustered_sample(generator, groups)
    return base + generator.normal(0.3, 0.2, len(base)), base, labels


def test_paired_bootstrap_agrees_with_the_interval_of_the_difference():
    robust, plain, groups = paired_sample(5)
    difference, low, high = paired_bootstrap(robust, plain, groups, seed=0, resamples=4000)
    assert difference == pytest.approx(np.mean(robust - plain), abs=1e-12)
    expected = mean_interval(robust - plain, groups)
    width = expected[1] - expected[0]
    np.testing.assert_allclose((low, high), expected, atol=0.08 * width)


def test_paired_bootstrap_resamples_whole_groups():
    plain = np.zeros(200)
    robust = np.repeat([0.0, 1.0], 100)
    _, low, high = paired_bootstrap(robust, plain, ["a"] * 100 + ["b"] * 100, seed=0, resamples=500)
    assert (low, high) == (0.0, 1.0)


def test_paired_bootstrap_is_a_function_of_its_seed_and_not_of_its_chunks(monkeypatch):
    robust, plain, groups = paired_sample(6)
    first = paired_bootstrap(robust, plain, groups, seed=1, resamples=300)
    assert first != paired_bootstrap(robust, plain, groups, seed=2, resamples=300)
    monkeypatch.setattr("rtok.statistics._CHUNK", 100)
    assert paired_bootstrap(robust, plain, groups, seed=1, resamples=300) == first


def test_paired_bootstrap_needs_two_groups_and_pairs():
    assert paired_bootstrap([0.5, 0.7], [0.1, 0.3], ["a", "a"], seed=0, resamples=10) == (
        pytest.approx(0.4),
        None,
        None,
    )
    with pytest.raises(ValueError, match="2 and 1"):
        paired_bootstrap([0.5, 0.7], [0.1], ["a", "a"], seed=0, resamples=10)
