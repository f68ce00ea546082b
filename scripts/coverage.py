"""How often do the intervals of `rtok.statistics` hold the truth? Simulated; prints a Markdown table.

Usage: python scripts/coverage.py [SAMPLES]

Each scenario draws many samples of G clusters from a known distribution and counts the intervals that hold the true
value. Shares are drawn with true values all over 20 to 80 %: at a single one coverage jumps with the number of images.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rtok.results.iou import mean_iou
from rtok.statistics import Clusters, pooled_interval
from rtok.statistics.shares import share_bounds, share_difference_bounds
from rtok.statistics.spread import Spread

Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats]
Scenario = Callable[[np.random.Generator, int, int], float]  # generator, samples, clusters -> share covered

CLUSTERS = (6, 10, 20, 100)
SIZES = (1, 4, 2, 6, 3)  # images per cluster, over and over
ANY = (-np.inf, np.inf)
REPEATED = 5  # draws of the control
SEEDS = 3


def covered(bounds: Bounds, truth: Floats | float) -> float:
    """The share of intervals that hold the truth."""
    return float(((bounds[0] <= truth + 1e-12) & (truth - 1e-12 <= bounds[1])).mean())


def uneven(clusters: int) -> Clusters:
    """Clusters of several sizes."""
    return Clusters(np.repeat(np.arange(clusters), np.resize(SIZES, clusters)))


def mean(draw: Callable[[np.random.Generator, tuple[int, ...]], Floats], truth: float = 0.0) -> Scenario:
    """One image per cluster."""

    def run(rng: np.random.Generator, samples: int, clusters: int) -> float:
        values = draw(rng, (samples, clusters, 1))
        return covered(Spread.of(Clusters(np.arange(clusters)), values).bounds(ANY), truth)

    return run


def plain_t(draw: Callable[[np.random.Generator, tuple[int, ...]], Floats], truth: float) -> Scenario:
    """Student's interval as in textbooks, without what `rtok.statistics` does about skewness."""

    def run(rng: np.random.Generator, samples: int, clusters: int) -> float:
        values = draw(rng, (samples, clusters, 1))
        spread = Spread.of(Clusters(np.arange(clusters)), values)
        return covered(replace(spread, skewness=np.zeros(samples)).bounds(ANY), truth)

    return run


def mean_of_crops(rng: np.random.Generator, samples: int, clusters: int) -> float:
    """Several images per cluster, half of the variance between clusters."""
    groups = uneven(clusters)
    values = _effect(rng, samples, groups) + rng.normal(size=(samples, len(groups.membership), 1))
    return covered(Spread.of(groups, values).bounds(ANY), 0.0)


def mean_of_draws(rng: np.random.Generator, samples: int, clusters: int) -> float:
    """The control: draws differ, and differ by image."""
    normal = rng.normal
    values = normal(size=(samples, clusters, 1)) + 0.5 * normal(size=(samples, 1, REPEATED))
    values = values + 0.5 * normal(size=(samples, clusters, REPEATED))
    return covered(Spread.of(Clusters(np.arange(clusters)), values).bounds(ANY), 0.0)


def difference_of_seeds(rng: np.random.Generator, samples: int, clusters: int) -> float:
    """A method over its seeds minus the control over its draws."""
    normal, image = rng.normal, rng.normal(size=(samples, clusters, 1))
    seeds = 0.3 * normal(size=(samples, 1, SEEDS)) + 0.5 * normal(size=(samples, clusters, SEEDS))
    draws = 0.3 * normal(size=(samples, 1, REPEATED)) + 0.5 * normal(size=(samples, clusters, REPEATED))
    groups = Clusters(np.arange(clusters))
    return covered(Spread.of(groups, 2 * image + seeds, image + draws).bounds(ANY), 0.0)


def share(correlation: float, per_cluster: int, draws: int = 1) -> Scenario:
    """An accuracy: an image is right where a normal variable, shared in part by its cluster, is below a threshold."""

    def run(rng: np.random.Generator, samples: int, clusters: int) -> float:
        groups, truth = _even(clusters, per_cluster), _truths(rng, samples)
        values = _hits(rng, groups, correlation, truth, draws)
        return covered(share_bounds(groups, values), truth[:, 0, 0])

    return run


def share_difference(correlation: float, per_cluster: int) -> Scenario:
    """The accuracies of two victims that find the same images hard."""

    def run(rng: np.random.Generator, samples: int, clusters: int) -> float:
        groups, one, other = _even(clusters, per_cluster), _truths(rng, samples), _truths(rng, samples)
        shared = 0.5**0.5 * rng.normal(size=(samples, len(groups.membership), 1))
        first, second = (
            (shared + 0.5**0.5 * _variable(rng, samples, groups, correlation) < _quantile(truth)) * 1.0
            for truth in (one, other)
        )
        return covered(share_difference_bounds(groups, first, second), (one - other)[:, 0, 0])

    return run


def miou(classes: int, present: float, paired: bool) -> Scenario:
    """The mIoU of one confusion matrix, or the difference of two victims'; `present` of the classes in each image."""

    def run(rng: np.random.Generator, samples: int, clusters: int) -> float:
        samples = max(100, samples // 20)  # each is a bootstrap
        truth = mean_iou(_pixels(rng, 50_000, classes, present).sum(1))
        expected = truth[0] - truth[1] if paired else truth[0]
        hits = 0
        for _ in range(samples):
            one, other = _pixels(rng, clusters, classes, present)
            bounds = pooled_interval(mean_iou, one[None], range(clusters), (0, 1), other[None] if paired else None)
            assert bounds is not None
            hits += bounds[0] <= expected <= bounds[1]
        return hits / samples

    return run


def _pixels(rng: np.random.Generator, images: int, classes: int, present: float) -> Floats:
    """Intersection, labeled and predicted pixels (2, images, classes, 3) of two victims on the same images."""
    labeled = rng.gamma(2, 50, size=(images, classes)) * (rng.random((images, classes)) < present)
    shared, found = rng.normal(size=(images, 1)), []
    for skill in (0.3, 0.0):
        logit = skill + 0.5 * shared + 0.5 * rng.normal(size=(images, classes))
        right = labeled / (1 + np.exp(-logit))
        wrong = (labeled - right).sum(1, keepdims=True) / classes * rng.uniform(0.5, 1.5, size=(images, classes))
        found.append(np.stack([right, labeled, right + wrong], axis=-1))
    return np.stack(found)


def _even(clusters: int, per_cluster: int) -> Clusters:
    return Clusters(np.repeat(np.arange(clusters), per_cluster))


def _effect(rng: np.random.Generator, samples: int, groups: Clusters) -> Floats:
    return rng.normal(size=(samples, len(groups), 1))[:, groups.membership]


def _truths(rng: np.random.Generator, samples: int) -> Floats:
    return rng.uniform(0.2, 0.8, size=(samples, 1, 1))


def _quantile(share: Floats) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(share))


def _variable(rng: np.random.Generator, samples: int, groups: Clusters, correlation: float) -> Floats:
    own = rng.normal(size=(samples, len(groups.membership), 1))
    return np.sqrt(correlation) * _effect(rng, samples, groups) + np.sqrt(1 - correlation) * own


def _hits(rng: np.random.Generator, groups: Clusters, correlation: float, truth: Floats, draws: int) -> Floats:
    samples, n = len(truth), len(groups.membership)
    values = _variable(rng, samples, groups, correlation)
    if draws > 1:
        own = rng.normal(size=(samples, 1, draws)) * 0.1**0.5 + rng.normal(size=(samples, n, draws)) * 0.3**0.5
        values = 0.6**0.5 * values + own
    return np.where(values < _quantile(truth), 1.0, 0.0)


SYMMETRIC: dict[str, Scenario] = {
    "mean, normal": mean(lambda rng, shape: rng.normal(size=shape)),
    "mean, uniform": mean(lambda rng, shape: rng.uniform(-1, 1, size=shape)),
    "mean, clusters of 1 to 6 crops": mean_of_crops,
    "mean over 5 draws": mean_of_draws,
    "difference of means, 3 seeds and 5 draws": difference_of_seeds,
    "accuracy, independent images": share(0.0, 1),
    "accuracy, clusters of 4": share(0.3, 4),
    "accuracy over 5 draws": share(0.0, 1, REPEATED),
    "difference of accuracies, independent images": share_difference(0.0, 1),
    "difference of accuracies, clusters of 4": share_difference(0.5, 4),
    "mIoU, 4 classes in every image": miou(4, 1.0, paired=False),
    "difference of mIoU, 4 classes in every image": miou(4, 1.0, paired=True),
}
TAILED: dict[str, tuple[Callable[[np.random.Generator, tuple[int, ...]], Floats], float]] = {
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "beta(8, 1), as of cosines near 1": (lambda rng, shape: rng.beta(8, 1, size=shape), 8 / 9),
    "lognormal": (lambda rng, shape: rng.lognormal(size=shape), float(np.exp(0.5))),
}
SKEWED: dict[str, Scenario] = {
    **{f"mean, {name}": mean(*known) for name, known in TAILED.items()},
    "mIoU, 10 classes, half of them in an image": miou(10, 0.5, paired=False),
    **{f"plain t instead, {name}": plain_t(*known) for name, known in TAILED.items()},
}
CAUTIOUS: dict[str, Scenario] = {
    "accuracy, clusters of 4 images no more alike than others": share(0.0, 4),
    "difference of accuracies, clusters of 4, no more alike than others": share_difference(0.0, 4),
}


def coverage(scenario: Scenario, samples: int, clusters: int) -> float:
    """The share of the intervals that hold the truth: a function of the arguments alone."""
    return scenario(np.random.default_rng(clusters), samples, clusters)


def main(samples: int = 10_000) -> None:
    """Print the table."""
    print("| what is estimated | " + " | ".join(f"{clusters} clusters" for clusters in CLUSTERS) + " |")
    print("| --- |" + " --- |" * len(CLUSTERS))
    for about, scenarios in (("symmetric", SYMMETRIC), ("skewed", SKEWED), ("cautious", CAUTIOUS)):
        for name, scenario in scenarios.items():
            found = [f"{100 * coverage(scenario, samples, clusters):.1f} %" for clusters in CLUSTERS]
            print(f"| {about}: {name} | " + " | ".join(found) + " |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
