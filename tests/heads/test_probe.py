"""Probes against scikit-learn's logistic regression."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from rtok.heads import probe
from rtok.heads.linear import LinearHead
from rtok.heads.probe import accuracy, fit_probe


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor, Tensor]:
    """Noisy classes in features of very different scales, one of them constant; a fifth is held out."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, 12, generator=generator)
    labels = torch.arange(200) % 4
    features = centers[labels] + 1.5 * torch.randn(200, 12, generator=generator)
    features = features * torch.logspace(-2, 2, 12) + 5
    features[:, 3] = 7.0
    return features, labels, torch.arange(200) % 5 == 0


def reference(features: Tensor, labels: Tensor, l2: float) -> LogisticRegression:
    return LogisticRegression(C=1 / (l2 * len(features)), tol=1e-10, max_iter=10_000).fit(features, labels)


def standardised(features: Tensor, like: Tensor) -> Tensor:
    std = like.double().std(0, correction=0)
    return (features.double() - like.double().mean(0)) / torch.where(std > 0, std, 1.0)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_equals_logistic_regression(data: tuple[Tensor, Tensor, Tensor], l2: float) -> None:
    features, labels, held_out = data
    found = fit_probe(features, labels, held_out, 4, [l2])
    inputs = standardised(features, features)
    expected = torch.from_numpy(reference(inputs, labels, l2).predict_proba(inputs))
    torch.testing.assert_close(found.head.on(features).softmax(1).double(), expected, rtol=0, atol=3e-3)


def test_the_strength_that_is_best_on_held_out_images(data: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, held_out = data
    strengths = [1e-4, 1e-2, 1.0, 30.0]
    fitted = standardised(features, features[~held_out])
    scores = {
        l2: reference(fitted[~held_out], labels[~held_out], l2).score(fitted[held_out], labels[held_out])
        for l2 in strengths
    }
    found = fit_probe(features, labels, held_out, 4, strengths)
    assert len(set(scores.values())) > 1
    assert found.l2 == max(l2 for l2 in strengths if scores[l2] == max(scores.values()))
    assert found.accuracy == pytest.approx(max(scores.values()))


def test_the_final_fit_uses_all_images(data: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, held_out = data
    changed = labels.clone()
    changed[held_out] = (changed[held_out] + 1) % 4
    first, second = (fit_probe(features, y, held_out, 4, [1e-2]).head for y in (labels, changed))
    assert (first.weight - second.weight).abs().max() > 1e-3


def test_chunks_change_nothing(data: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, held_out = data
    whole = fit_probe(features, labels, held_out, 4, [1e-1, 1e-2])
    monkeypatch.setattr(probe, "_CHUNK", 33)
    parts = fit_probe(features, labels, held_out, 4, [1e-1, 1e-2])
    assert (parts.l2, parts.accuracy) == (whole.l2, whole.accuracy)
    torch.testing.assert_close(parts.head.on(features), whole.head.on(features), rtol=0, atol=5e-2)


def test_accuracy() -> None:
    head = LinearHead(torch.eye(3), torch.zeros(3))
    assert accuracy(head, torch.eye(3), torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    assert accuracy(head, torch.empty(0, 3), torch.empty(0, dtype=torch.long)) == 0
