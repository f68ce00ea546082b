"""Fit a linear probe: multinomial logistic regression on fixed features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.heads.linear import LinearHead

_CHUNK = 65_536  # images whose logits are held at once: 256 MiB for 1,000 classes
_ITERATIONS = 200
# L-BFGS stops when no entry of the gradient exceeds the first, or the loss changes by less than the second.
_GRADIENT, _CHANGE = 1e-6, 1e-9


@dataclass(frozen=True)
class Probe:
    """A fitted head, the chosen strength of the penalty, and its accuracy on the held-out images."""

    head: LinearHead
    l2: float
    accuracy: float


def fit_probe(features: Tensor, labels: Tensor, held_out: Tensor, classes: int, strengths: Sequence[float]) -> Probe:
    """Fit a probe with each strength, keep the strength that is best on held-out images, and fit it again on all.

    L-BFGS minimizes mean cross-entropy + l2 / 2 * |W|^2 over weights W on standardized features (so that a strength
    means the same for every backbone) and biases without penalty. The problem is convex, so there is one solution. If
    two strengths are equally good, the stronger one wins.

    Args:
        features: (N, width) float32; labels: (N,) int64 in [0, classes); held_out: (N,) bool.
    """
    fitted, test = ~held_out, held_out
    scaling = _Scaling.of(features[fitted])
    inputs, targets = scaling.apply(features[fitted]), labels[fitted]
    parameters = inputs.new_zeros(classes, inputs.shape[1] + 1)
    best, starts = (-1.0, 0.0), {}
    # From the smoothest problem to the hardest, each starting at the last solution.
    for l2 in sorted(strengths, reverse=True):
        parameters = _minimize(inputs, targets, l2, parameters)
        starts[l2] = parameters
        found = accuracy(scaling.head(parameters), features[test], labels[test])
        if found > best[0]:
            best = (found, l2)
    scaling = _Scaling.of(features)
    parameters = _minimize(scaling.apply(features), labels, best[1], starts[best[1]])
    return Probe(scaling.head(parameters), l2=best[1], accuracy=best[0])


def accuracy(head: LinearHead, features: Tensor, labels: Tensor) -> float:
    """Return the share of features (N, width) that the head classifies correctly; 0 if there are none."""
    parts = zip(features.split(_CHUNK), labels.split(_CHUNK), strict=True)
    hits = sum(int((head.on(f).argmax(1) == y).sum()) for f, y in parts)
    return hits / max(1, len(features))


@dataclass(frozen=True)
class _Scaling:
    """Mean and standard deviation of each feature, (width,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> _Scaling:
        std = features.std(0, correction=0)
        return cls(features.mean(0), torch.where(std > 0, std, 1.0))  # a constant feature stays zero

    def apply(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std

    def head(self, parameters: Tensor) -> LinearHead:
        """Fold the scaling into a head for unscaled features."""
        weight = parameters[:, :-1] / self.std
        return LinearHead(weight, parameters[:, -1] - weight @ self.mean)


def _minimize(inputs: Tensor, labels: Tensor, l2: float, start: Tensor) -> Tensor:
    """Return the weights and, in the last column, the biases (K, width + 1) at the minimum."""
    parameters = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=_ITERATIONS,
        tolerance_grad=_GRADIENT,
        tolerance_change=_CHANGE,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = 0.5 * l2 * parameters[:, :-1].square().sum()
        total.backward()
        total = total.detach()
        for part, y in zip(inputs.split(_CHUNK), labels.split(_CHUNK), strict=True):
            logits = F.linear(part, parameters[:, :-1], parameters[:, -1])
            loss = F.cross_entropy(logits, y, reduction="sum") / len(inputs)
            loss.backward()
            total += loss.detach()
        return total

    optimizer.step(closure)
    return parameters.detach()
