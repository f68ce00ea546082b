"""The sign-flip test against a slow enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rtok.statistics import sign_flip_p


def enumerated(totals):
    sums = [
        sum(s * t for s, t in zip(signs, totals, strict=True))
        for signs in itertools.product((1, -1), repeat=len(totals))
    ]
    return np.mean([abs(found) >= abs(sum(totals)) - 1e-9 for found in sums])


@pytest.mark.parametrize("clusters", [2, 5, 9])
def test_p_is_the_share_of_sign_patterns_that_differ_as_much(clusters):
    rng = np.random.default_rng(clusters)
    groups = np.repeat(range(clusters), 3).tolist()
    a, b = rng.normal(0.4, 1, 3 * clusters), rng.normal(0, 1, 3 * clusters)
    totals = (a - b).reshape(clusters, 3).sum(1)
    assert sign_flip_p(a, b, groups) == pytest.approx(enumerated(totals))
    assert sign_flip_p(b, a, groups) == sign_flip_p(a, b, groups)


def test_the_smallest_p_and_that_of_equal_victims():
    assert sign_flip_p([1.0] * 6, [0.0] * 6, range(6)) == 2**-5
    assert sign_flip_p([1.0] * 6, [1.0] * 6, range(6)) == 1.0


def test_draws_are_averaged():
    a = np.random.default_rng(3).normal(size=(7, 4))
    b = np.random.default_rng(4).normal(size=7)
    assert sign_flip_p(a, b, range(7)) == sign_flip_p(a.mean(1), b, range(7))


def test_enough_clusters_or_too_few_need_none():
    assert sign_flip_p([1.0] * 10, [0.0] * 10, range(10)) is None
    assert sign_flip_p([1.0, 2.0], [0.0, 0.0], ["a", "a"]) is None
