"""The second program of the attack: it climbs to where a closed form says the maximum is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rtok.attacks import FixedSurrogate, LabelCriterion, Objective
from rtok.attacks.ball import distance
from rtok.config.attack import read_attack
from rtok.evaluation.sanity.reference import go_on

STD = torch.tensor([0.2, 0.3, 0.4])[None, :, None, None]


@pytest.fixture
def weights() -> Tensor:
    return torch.randn(3 * 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def objective(weights: Tensor) -> Objective:
    """Two classes; the loss rises with the product of the image and the weights."""

    def model(images: Tensor) -> Tensor:
        score = images.flatten(1) @ weights / 10
        return torch.stack([-score, score], 1)

    return Objective(FixedSurrogate(model), LabelCriterion(torch.tensor([0, 0])))


@pytest.mark.parametrize("units", ["pixel", "normalized"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_reaches_the_maximum_in_the_ball(objective: Objective, weights: Tensor, norm: str, units: str) -> None:
    images = torch.full((2, 3, 8, 8), 0.5)
    settings = read_attack({"norm": norm, "units": units, "eps": 0.1, "quantize": "none"})
    scale = STD if units == "normalized" else torch.ones(1)
    direction = weights.view(1, 3, 8, 8) * scale
    direction = direction.sign() if norm == "linf" else direction / direction.norm()
    found = go_on(objective, images, images, settings, STD, 12)
    torch.testing.assert_close(found, (images + 0.1 * direction * scale).expand_as(found), atol=1e-4, rtol=0)


def test_it_keeps_to_the_ball_the_box_and_the_levels(objective: Objective) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    settings = read_attack({"eps": "8/255"})
    found = go_on(objective, images, torch.ones_like(images), settings, STD, 5)
    assert distance(found, images, "linf", torch.ones(1)).max() <= 8.5 / 255 + 1e-6
    assert found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(found * 255, (found * 255).round(), atol=1e-4, rtol=0)


def test_it_returns_the_best_on_the_way(objective: Objective) -> None:
    """A loss that falls again beyond half the radius."""

    def model(images: Tensor) -> Tensor:
        away = (images - 0.5).flatten(1).abs().mean(1)
        return torch.stack([torch.zeros_like(away), -((away - 0.05) ** 2) * 1000], 1)

    images = torch.full((2, 3, 8, 8), 0.5)
    hill = Objective(FixedSurrogate(model), objective.criterion)
    start = images + 0.01
    settings = read_attack({"eps": 0.1, "quantize": "none"})
    found = go_on(hill, images, start, settings, None, 5)
    assert (found - images).abs().mean() == pytest.approx(0.06, abs=1e-5)  # 0.01, 0.035, 0.06, then back
