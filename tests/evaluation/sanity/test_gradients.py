"""Gradients beside finite differences: right ones agree to a per mille, wrong ones by no means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.attacks import FixedSurrogate, LabelCriterion, Objective
from rtok.evaluation.sanity.gradients import agreement, worst
from scripts.sanity_mutants import altered, flipped

SHAPE = (3, 16, 16)
KEYS = ("a", "b")


@pytest.fixture
def objective() -> Objective:
    """A curved loss with the noise of float32."""
    g = torch.Generator().manual_seed(0)
    inner, outer = torch.randn(3 * 256, 32, generator=g) / 10, torch.randn(32, 4, generator=g)
    return Objective(
        FixedSurrogate(lambda images: (images.flatten(1) @ inner).tanh() @ outer), LabelCriterion(torch.tensor([0, 1]))
    )


@pytest.fixture
def points() -> Tensor:
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))


def with_gradient(objective: Objective, change: Callable[[Tensor], Tensor]) -> Objective:
    ((_, model),) = objective.surrogate.members(None)  # type: ignore[arg-type]
    return Objective(FixedSurrogate(altered(model, change)), objective.criterion)


def test_a_right_gradient_agrees(objective: Objective, points: Tensor) -> None:
    found = agreement(objective, objective, points, KEYS, 0, "near")
    assert found.passed.all()
    assert (found.along - 1).abs().max() < 0.01 and found.across.max() < 0.05
    assert found.along_noise.max() < 0.05 and found.across_noise.max() < 0.1  # so it could have failed


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.45])
def test_flipped_signs_predict_less_along_the_gradient(objective: Objective, points: Tensor, share: float) -> None:
    claimed = with_gradient(objective, lambda gradient: flipped(share, gradient))
    found = agreement(claimed, objective, points, KEYS, 0, "near")
    assert not found.passed.any()
    assert found.along.tolist() == pytest.approx([1 - 2 * share] * 2, abs=0.12)
    # |g - G| = 2 sqrt(share) |G|
    assert found.across.tolist() == pytest.approx([2 * share**0.5] * 2, rel=0.7)


def test_a_gradient_of_a_part_agrees_along_itself_and_fails_across(objective: Objective, points: Tensor) -> None:
    found = agreement(with_gradient(objective, _upper), objective, points, KEYS, 0, "near")
    assert (found.along - 1).abs().max() < 0.01
    assert found.across.min() > 0.3 and not found.passed.any()


def _upper(gradient: Tensor) -> Tensor:
    return torch.cat([gradient[:, :, :12], torch.zeros_like(gradient[:, :, 12:])], 2)


@pytest.mark.parametrize(
    ("change", "along", "across"),
    [
        (torch.zeros_like, 0.0, 1.0),
        (lambda gradient: gradient * float("nan"), 0.0, 1.0),
        (lambda gradient: 1e-6 * gradient, 1e6, 1e6),
    ],
    ids=["none", "nan", "faint"],
)
def test_no_gradient_and_a_faint_one(
    objective: Objective, points: Tensor, change: Callable[[Tensor], Tensor], along: float, across: float
) -> None:
    found = agreement(with_gradient(objective, change), objective, points, KEYS, 0, "near")
    assert not found.passed.any()
    assert worst([found])[:2] == (pytest.approx(along, rel=0.01), pytest.approx(across, rel=0.8))


def test_each_image_counts(objective: Objective, points: Tensor) -> None:
    """Where the gradient of one image of two is wrong, that image alone fails."""
    change = torch.tensor([1.0, 0.5])[:, None, None, None]
    found = agreement(with_gradient(objective, lambda g: g * change), objective, points, KEYS, 0, "near")
    assert found.passed.tolist() == [True, False]
    assert worst([found])[0] == pytest.approx(2, rel=0.01)


def test_rounding_errors_widen_the_tolerance(objective: Objective, points: Tensor) -> None:
    """A model of 8 bits of mantissa cannot be told from one with flipped signs: nothing is claimed."""
    ((_, model),) = objective.surrogate.members(None)  # type: ignore[arg-type]
    rough = Objective(
        FixedSurrogate(lambda x: model(x) + 0.1 * torch.sin(1e7 * x.sum((1, 2, 3)))[:, None] * _ONE),
        objective.criterion,
    )
    found = agreement(objective, rough, points, KEYS, 0, "near")
    assert found.passed.all() and found.along_noise.min() > 0.2 and found.across.min() > 0.5


_ONE = torch.tensor([1.0, 0.0, 0.0, 0.0])


def test_the_result_depends_on_neither_batch_nor_order(objective: Objective, points: Tensor) -> None:
    both = agreement(objective, objective, points, KEYS, 0, "near")
    other = agreement(with_one_label(objective, 1), with_one_label(objective, 1), points[1:], KEYS[1:], 0, "near")
    torch.testing.assert_close(other.across, both.across[1:], atol=0.02, rtol=0)


def with_one_label(objective: Objective, b: int) -> Objective:
    return Objective(objective.surrogate, LabelCriterion(torch.tensor([b])))


def test_a_copy_with_another_loss_fails(objective: Objective, points: Tensor) -> None:
    """A constant more in the loss changes no gradient, but what is attacked is not what is evaluated."""

    class Other(LabelCriterion):
        def __call__(self, output: Tensor, images: Any) -> Tensor:
            return super().__call__(output, images) + 1e-3

    found = agreement(Objective(objective.surrogate, Other(torch.tensor([0, 1]))), objective, points, KEYS, 0, "near")
    assert found.apart.tolist() == pytest.approx([1e-3] * 2, rel=0.1)
    assert not found.passed.any() and worst([found])[2] == pytest.approx(1e-3, rel=0.1)
