"""How often intervals hold the truth, by simulation, and that plausible mistakes would show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rtok.statistics import Clusters
from rtok.statistics.shares import newcombe_bounds, wilson_bounds
from rtok.statistics.spread import Spread

FILE = Path(__file__).resolve().parents[2] / "scripts" / "coverage.py"
spec = importlib.util.spec_from_file_location("coverage_script", FILE)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

ANY = (-np.inf, np.inf)
SAMPLES = 4000  # the standard error of a coverage of 95 % is 0.35 %


@pytest.mark.parametrize("name", script.SYMMETRIC)
def test_intervals_of_symmetric_data_hold_the_truth_in_93_to_97_percent(name):
    found = [script.coverage(script.SYMMETRIC[name], SAMPLES, clusters) for clusters in script.CLUSTERS]
    slack = 0.015 if "mIoU" in name else 0.0  # those are 200 bootstraps
    assert min(found) > 0.93 - slack and max(found) < 0.97 + slack, found


@pytest.mark.parametrize("name", script.TAILED)
def test_skewed_data_are_covered_better_than_by_a_plain_t(name):
    ours, plain = ([script.coverage(script.SKEWED[f"{kind}, {name}"], SAMPLES, clusters) for clusters in (6, 10, 20)]
                   for kind in ("mean", "plain t instead"))  # fmt: skip
    assert all(a > b + 0.01 for a, b in zip(ours, plain, strict=True)) and plain[0] < 0.92
    assert max(ours) < 0.97


def draws(clusters=6, per=3, correlation=0.5, samples=SAMPLES):
    """Samples of clusters of `per` images whose values share a normal effect."""
    rng = np.random.default_rng(0)
    groups = Clusters(np.repeat(np.arange(clusters), per))
    effect = rng.normal(size=(samples, clusters, 1))[:, groups.membership]
    own = rng.normal(size=(samples, clusters * per, 1))
    return groups, correlation**0.5 * effect + (1 - correlation) ** 0.5 * own


def t_coverage(groups, values, *, factor=1.0, quantile=None):
    from scipy.special import stdtrit

    spread = Spread.of(groups, values)
    margin = (stdtrit(spread.df, 0.975) if quantile is None else quantile) * np.sqrt(factor * spread.variance)
    return script.covered((spread.mean - margin, spread.mean + margin), 0.0)


def test_mutants_of_the_mean_would_show():
    groups, values = draws()
    assert t_coverage(groups, values) == pytest.approx(0.95, abs=0.012)
    assert t_coverage(groups, values, quantile=1.96) < 0.92  # z instead of t
    assert t_coverage(groups, values, factor=5 / 6) < 0.938  # ddof 0 instead of 1
    assert t_coverage(Clusters(np.arange(18)), values) < 0.90  # clusters ignored


def test_mutants_of_draws_would_show():
    rng = np.random.default_rng(1)
    groups = Clusters(np.arange(10))
    values = rng.normal(size=(SAMPLES, 10, 1)) + rng.normal(size=(SAMPLES, 1, 5))
    averaged = Spread.of(groups, values.mean(2, keepdims=True)).bounds(ANY)
    assert script.covered(averaged, 0.0) < 0.85  # draws taken as given
    assert script.covered(Spread.of(groups, values).bounds(ANY), 0.0) > 0.93


def test_mutants_of_shares_would_show():
    groups, values = draws(clusters=10, per=8, correlation=0.4)
    hits = (values < 0) * 1.0
    share = hits.mean((1, 2))
    assert script.covered(wilson_bounds(share, np.full_like(share, 80.0)), 0.5) < 0.85  # clusters ignored
    assert 0.93 < script.covered(script.share_bounds(groups, hits), 0.5) < 0.97


def test_mutants_of_differences_of_shares_would_show():
    """Without their correlation pairs are covered too often."""
    rng = np.random.default_rng(2)
    shared, own = rng.normal(size=(SAMPLES, 60, 1)), rng.normal(size=(2, SAMPLES, 60, 1))
    one, other = (0.8**0.5 * shared + 0.2**0.5 * own < 0) * 1.0
    paired = script.share_difference_bounds(Clusters(np.arange(60)), one, other)
    assert 0.93 < script.covered(paired, 0.0) < 0.97
    a, b = one.mean((1, 2)), other.mean((1, 2))
    unpaired = newcombe_bounds(a * b, a * (1 - b), (1 - a) * b, np.full_like(a, 60.0), 60.0)
    assert script.covered(unpaired, 0.0) > 0.99


def test_the_table(capsys, monkeypatch):
    few = dict(list(script.SYMMETRIC.items())[:1])
    monkeypatch.setattr(script, "SYMMETRIC", few)
    monkeypatch.setattr(script, "SKEWED", {})
    monkeypatch.setattr(script, "CAUTIOUS", {})
    script.main(50)
    head, line, row = capsys.readouterr().out.splitlines()
    assert head.count("|") == line.count("|") == row.count("|") == 6 and "mean, normal" in row and "%" in row
