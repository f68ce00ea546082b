"""The losses of attacks on segmentation, against their formulas written out pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log

import pytest
import torch
from torch import Tensor

from rtok.attacks import MaskCriterion
from rtok.attacks.masks import LOSSES
from rtok.config.attack import Loss

IGNORE = 255
ALL = slice(0, None)


@pytest.fixture
def seen() -> tuple[Tensor, Tensor]:
    """Logits (3, 4, 2, 5) that are right about some pixels, and labels of unequal areas; the last image has none."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, 5, generator=generator, dtype=torch.float32)
    labels = torch.tensor(
        [[[0, 0, 0, 0, 1], [0, 0, 2, IGNORE, 1]], [[3, 3, 3, IGNORE, IGNORE], [3, 3, 3, 3, 0]], [[IGNORE] * 5] * 2]
    )
    right = labels.clamp(max=3)[:, None]
    logits.scatter_add_(1, right, 1.5 * (torch.rand(right.shape, generator=generator) > 0.4))
    return logits, labels


def pixels(logits: Tensor, labels: Tensor) -> list[tuple[Tensor, int]]:
    """The logits and the label of every labeled pixel of an image."""
    return [
        (logits[:, i, j], int(labels[i, j]))
        for i in range(labels.shape[0])
        for j in range(labels.shape[1])
        if labels[i, j] != IGNORE
    ]


def entropy(logits: Tensor, label: int) -> Tensor:
    return -(logits[label].exp() / logits.exp().sum()).log()


def masked(image: list[tuple[Tensor, int]]) -> Tensor:
    return sum_of(entropy(z, y) for z, y in image if int(z.argmax()) == y) / len(image)


def balanced(image: list[tuple[Tensor, int]]) -> Tensor:
    """The mean over the classes of the mean over each class's pixels."""
    classes = {y for _, y in image}
    means = [masked([(z, y) for z, y in image if y == label]) for label in classes]
    return sum_of(means) / len(classes)


def jensen_shannon(image: list[tuple[Tensor, int]]) -> Tensor:
    total = torch.zeros(())
    for logits, label in image:
        p = logits.exp() / logits.exp().sum()
        y = torch.eye(len(p))[label]
        m = (p + y) / 2
        total = total + 0.5 * (p * (p / m).log()).sum() + 0.5 * (1 / m[label]).log()
    return total / len(image)


def margin(image: list[tuple[Tensor, int]]) -> Tensor:
    gaps = [torch.cat([z[:y], z[y + 1 :]]).max() - z[y] for z, y in image]
    assert any(gap > 0 for gap in gaps)  # which a mean without a bound would count
    return sum_of(gap for gap in gaps if gap < 0) / len(image)


def sum_of(terms: object) -> Tensor:
    return sum(terms, torch.zeros(()))  # type: ignore[call-overload, no-any-return]


FORMULAS: dict[Loss, Callable[[list[tuple[Tensor, int]]], Tensor]] = {
    "masked-cross-entropy": masked,
    "balanced-cross-entropy": balanced,
    "jensen-shannon": jensen_shannon,
    "margin": margin,
}


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(loss(logits).sum(), logits)
    return found


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_against_their_formulas(name: Loss, seen: tuple[Tensor, Tensor]) -> None:
    logits, labels = seen
    for b in range(2):
        one, mask = logits[b : b + 1], labels[b : b + 1]
        criterion = MaskCriterion(mask, loss=name)

        def formula(z: Tensor, mask: Tensor = mask) -> Tensor:
            return FORMULAS[name](pixels(z[0], mask[0]))

        torch.testing.assert_close(gradient(partial(criterion, images=ALL), one), gradient(formula, one))
        if name == "margin":
            torch.testing.assert_close(criterion(one, ALL)[0], formula(one))
        else:
            counted = torch.where(mask == IGNORE, -1, mask)
            total = LOSSES[name](one, counted)[counted >= 0].sum() / (counted >= 0).sum()
            torch.testing.assert_close(total, formula(one))


@pytest.mark.parametrize("name", LOSSES)
def test_steps_are_judged_by_the_cross_entropy(name: Loss, seen: tuple[Tensor, Tensor]) -> None:
    logits, labels = seen
    images = [pixels(logits[b], labels[b]) for b in range(2)]
    expected = torch.stack([sum_of(entropy(*pixel) for pixel in image) / len(image) for image in images])
    for loss in ("cross-entropy", name):
        torch.testing.assert_close(MaskCriterion(labels, loss=loss)(logits, ALL)[:2], expected)


@pytest.mark.parametrize("name", ["masked-cross-entropy", "balanced-cross-entropy", "margin"])
def test_a_wrong_pixel_has_no_say(name: Loss) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).T[None, :, None]  # (1, 2, 1, 2): classes 0 and 1
    pulled = gradient(lambda z: MaskCriterion(torch.tensor([[[0, 0]]]), loss=name)(z, ALL), logits)
    assert pulled[..., 0].abs().min() > 0.01 and (pulled[..., 1] == 0).all()


@pytest.mark.parametrize("name", ["cross-entropy", *FORMULAS])
def test_an_image_does_not_depend_on_its_batch(name: Loss, seen: tuple[Tensor, Tensor]) -> None:
    """Nor does one without labels, whose loss and gradient are zero."""
    logits, labels = seen
    criterion = MaskCriterion(labels, loss=name)
    whole = gradient(lambda z: criterion(z, ALL), logits)
    assert whole.isfinite().all() and (whole[2] == 0).all() and criterion(logits, ALL)[2] == 0
    places = torch.tensor([1])
    assert torch.equal(gradient(lambda z: criterion(z, places), logits[places]), whole[places])


def test_losses_stay_finite_where_the_model_is_sure() -> None:
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]]).T[None, :, None]
    labels = torch.tensor([[[0, 0]]])
    for name in LOSSES:
        assert gradient(lambda z, name=name: MaskCriterion(labels, loss=name)(z, ALL), logits).isfinite().all()
    assert float(LOSSES["jensen-shannon"](logits, labels)[0, 0, 1]) == pytest.approx(log(2))


def test_how_much_of_an_image_is_fooled(seen: tuple[Tensor, Tensor]) -> None:
    logits, labels = seen
    images = [pixels(logits[b], labels[b]) for b in range(2)]
    wrong = [sum(int(z.argmax()) != y for z, y in image) / len(image) for image in images]
    assert 0 < wrong[0] < 1
    assert MaskCriterion(labels).fooled(logits, ALL).tolist() == pytest.approx([*wrong, 0])
