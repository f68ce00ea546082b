"""The interval of a pooled statistic: of a mean where it is linear, elsewhere against an explicit bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.statistics import mean_interval, pooled_interval
from rtok.statistics.pooled import _resamples

UNIT = (0.0, 1.0)


def ratio(sums):
    """Of a number and its count it is the mean."""
    return sums[..., 0] / sums[..., 1]


def counted(values):
    return np.stack([values, np.ones_like(values)], axis=-1)


def samples(seed, *shape):
    return np.random.default_rng(seed).beta(4, 4, size=shape)


def test_of_a_mean_it_is_the_interval_of_a_mean():
    y = samples(0, 1, 15)
    expected = mean_interval(y[0], range(15))
    width = expected[1] - expected[0]
    assert pooled_interval(ratio, counted(y), range(15), UNIT) == pytest.approx(expected, abs=0.05 * width)


def test_draws_add_as_in_the_interval_of_a_mean():
    y = np.clip(samples(1, 5, 1) * 0.5 + samples(2, 1, 12) * 0.3 + samples(3, 5, 12) * 0.2, 0, 1)
    expected, one = mean_interval(y.T, range(12), UNIT), mean_interval(y.mean(0), range(12), UNIT)
    width = expected[1] - expected[0]
    assert width > 1.2 * (one[1] - one[0])
    assert pooled_interval(ratio, counted(y), range(12), UNIT) == pytest.approx(expected, abs=0.06 * width)


def test_the_error_is_that_of_a_bootstrap_with_its_correction_and_students_quantile():
    from scipy.stats import skew, t

    sums = np.random.default_rng(4).gamma(2, size=(1, 7, 2)) + np.array([0.0, 6.0])
    again = ratio(np.array([sums[0, chosen].sum(0) for chosen in np.random.default_rng(5).integers(7, size=(6000, 7))]))
    error, quantile = again.std() * np.sqrt(7 / 6), t.ppf(0.975, 6)
    shift = skew(again) * (2 * quantile**2 + 1) / 6
    estimate = ratio(sums[0].sum(0))
    expected = estimate - (quantile + max(0, -shift)) * error, estimate + (quantile + max(0, shift)) * error
    assert pooled_interval(ratio, sums, range(7), UNIT) == pytest.approx(expected, abs=0.06 * error * quantile)


def test_a_difference_is_paired():
    a, noise = samples(6, 1, 10), samples(7, 1, 10) * 0.02
    low, high = pooled_interval(ratio, counted(a + noise), range(10), UNIT, counted(a))
    assert high - low < 0.1 * np.subtract(*pooled_interval(ratio, counted(a), range(10), UNIT)[::-1])
    expected = mean_interval(noise[0], range(10))
    assert (low, high) == pytest.approx(expected, abs=0.06 * (expected[1] - expected[0]))


def test_images_of_a_group_go_together():
    sums = counted(samples(8, 1, 6))
    assert pooled_interval(ratio, sums, ["a", "a", "b", "c", "d", "e", "f"], UNIT) is not None
    assert pooled_interval(ratio, sums[:, :1], ["one"] * 6, UNIT) is None
    assert _resamples(6).sum(1).tolist() == [6] * len(_resamples(6))


def test_equal_clusters_have_a_width_and_nothing_has_no_interval():
    p = 1 - 0.05 ** (1 / 6)
    assert pooled_interval(ratio, counted(np.ones((1, 6))), range(6), UNIT) == pytest.approx((1 - p, 1.0))
    half = counted(np.full((1, 6), 0.5))
    assert pooled_interval(ratio, half, range(6), UNIT, half) == pytest.approx((-p, p))
    nothing = lambda sums: np.full(sums.shape[:-1], np.nan)  # noqa: E731
    assert pooled_interval(nothing, half, range(6), UNIT) is None


def test_resamples_without_anything_to_measure_are_left_out():
    sums = np.zeros((1, 8, 2))
    sums[0, :3] = [[0.4, 1.0], [0.6, 1.0], [0.5, 1.0]]

    def known(sums):
        return np.divide(sums[..., 0], sums[..., 1], out=np.full(sums.shape[:-1], np.nan), where=sums[..., 1] > 0)

    low, high = pooled_interval(known, sums, range(8), UNIT)
    assert 0 <= low < 0.5 < high <= 1
