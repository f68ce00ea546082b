"""AutoAttack: closed-form robustness of linear models, never weaker than PGD, and independent of the batch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import pytest
import timm
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from rtok.attacks import PGD, Context, FixedSurrogate, LabelCriterion, Objective, autoattack, craft
from rtok.attacks.autoattack import AutoAttack, TargetedDLR
from rtok.attacks.objective import Model, Step
from rtok.errors import UserError


class Linear:
    """Logits W x + b."""

    def __init__(self, classes: int = 10, pixels: int = 3 * 8 * 8) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(classes, pixels, generator=generator)
        self.bias = 0.1 * torch.randn(classes, generator=generator)

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias

    def robust(self, images: Tensor, labels: Tensor, eps: float, *, box: bool = True) -> Tensor:
        """Whether no image in the ball and the box [0, 1] has another label, in closed form.

        Towards class k every pixel moves by eps, or as far as the box allows, in the direction of w_k - w_y.
        """
        x = images.flatten(1)[:, None]
        direction = self.weight[None] - self.weight[labels][:, None]
        up, down = ((1 - x).clamp(max=eps), x.clamp(max=eps)) if box else (eps, eps)
        logits = self(images)
        gap = logits - logits.gather(1, labels[:, None]) + (torch.where(direction > 0, up, -down) * direction).sum(-1)
        return gap.scatter(1, labels[:, None], -torch.inf).amax(1) < 0


class RowByRow(Linear):
    """The same, bit by bit for any number of rows."""

    def __call__(self, images: Tensor) -> Tensor:
        return (images.flatten(1)[:, None] * self.weight).sum(-1) + self.bias


def images(count: int, *, extreme: bool = True) -> Tensor:
    found = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return (2 * found - 0.5).clamp(0, 1) if extreme else found  # half of the pixels lie on the box


def keys(count: int) -> list[str]:
    return [f"image{b}" for b in range(count)]


def objective(model: Model, labels: Tensor) -> Objective:
    return Objective(FixedSurrogate(model), LabelCriterion(labels, ignore_index=-100))


@pytest.mark.parametrize(
    ("attack", "count"),
    [(AutoAttack(eps=0.024), 4), (AutoAttack(eps=0.024, version="custom", attacks=["apgd-ce", "apgd-t"]), 20)],
)
def test_a_linear_model_is_as_robust_as_its_closed_form(
    attack: AutoAttack, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoattack, "QUERIES", 500)
    model, x = Linear(), images(count)
    labels = model(x).argmax(1)
    labels[0] = (labels[0] + 1) % 10  # one that is wrong anyway
    expected = model.robust(x, labels, attack.settings.eps)
    assert 0.2 < expected.float().mean() < 0.8
    # Without the box more images would fall: it is part of what is tested.
    assert count < 10 or model.robust(x, labels, attack.settings.eps, box=False).sum() < expected.sum()
    found = craft(attack, x, objective(model, labels), Context(keys(count))).images
    assert torch.equal(model(found).argmax(1) == labels, expected)
    assert (found - x).abs().amax() <= attack.settings.eps + 1e-7 and found.min() >= 0 and found.max() <= 1
    untouched = expected.clone()
    untouched[0] = True
    assert torch.equal((found == x).flatten(1).all(1), untouched)


def test_a_tiny_vit_is_no_more_accurate_than_under_pgd() -> None:
    torch.manual_seed(0)
    size = {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
    vit = timm.create_model("vit_tiny_patch16_224", **size)
    x, y = images(20, extreme=False), torch.arange(20) % 5
    optimizer = torch.optim.Adam(vit.parameters(), 1e-2)
    for _ in range(40):  # it learns most of its images by heart
        optimizer.zero_grad()
        nn.functional.cross_entropy(vit(x), y).backward()
        optimizer.step()
    vit.eval().requires_grad_(False)
    eps, target = 16 / 255, objective(vit, y)
    pgd = craft(PGD(eps=eps, quantize="none"), x, target, Context(keys(20))).images
    auto = craft(
        AutoAttack(eps=eps, version="custom", attacks=["apgd-ce", "apgd-t"]), x, target, Context(keys(20))
    ).images
    clean, under_pgd, under_auto = ((vit(found).argmax(1) == y).float().mean() for found in (x, pgd, auto))
    assert clean > under_pgd + 0.3 and under_pgd > 0.05
    assert under_auto <= under_pgd + 0.02


@pytest.mark.parametrize(
    "attack",
    [
        AutoAttack(eps=0.03),
        AutoAttack(eps=0.03, version="plus"),
        AutoAttack(norm="l2", eps=0.6, version="custom", attacks=["square", "fab"]),
    ],
)
def test_an_image_does_not_depend_on_its_batch(attack: AutoAttack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoattack, "STEPS", 5)
    monkeypatch.setattr(autoattack, "QUERIES", 30)
    model, x = RowByRow(), images(6)
    labels = model(x).argmax(1)
    together = craft(attack, x, objective(model, labels), Context(keys(6), seed=3))
    assert 0 < (model(together.images).argmax(1) == labels).sum() < 6
    for b in reversed(range(6)):
        one = slice(b, b + 1)
        alone = craft(attack, x[one], objective(model, labels[one]), Context(keys(6)[one], seed=3))
        torch.testing.assert_close(alone.images, together.images[one], rtol=0, atol=1e-6)
        assert alone.forwards[0] == together.forwards[b] and alone.gradients[0] == together.gradients[b]
    other = craft(attack, x, objective(model, labels), Context(keys(6), seed=4)).images
    assert not torch.equal(other, together.images)


def test_members_are_run_on_what_still_resists() -> None:
    model, x = Linear(), images(6)
    labels = model(x).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    attack = AutoAttack(eps=0.024, version="custom", attacks=["apgd-ce", "apgd-t"])
    found = craft(attack, x, objective(model, labels), Context(keys(6)))
    robust = model.robust(x, labels, 0.024)
    assert 0 < robust.sum() < 5
    # One run for the cross-entropy, and for each of nine targets as long as none has worked.
    runs = found.gradients // 100
    assert runs[0] == 0 and (runs[robust] == 10).all() and (runs[1:][~robust[1:]] < 10).all()


def test_the_targeted_loss_is_the_published_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels, targets = torch.randn(8, 6, generator=generator), torch.arange(8) % 6, (torch.arange(8) + 2) % 6
    public = APGDAttack_targeted(None, eps=1.0)
    public.y_target = targets
    criterion = TargetedDLR(labels, targets=targets)
    torch.testing.assert_close(criterion(logits, slice(0, 8)), public.dlr_loss_targeted(logits, labels))
    chosen = torch.tensor([5, 2])
    torch.testing.assert_close(criterion(logits[chosen], chosen), criterion(logits, slice(0, 8))[chosen])
    dlr = LabelCriterion(labels, loss="dlr")
    torch.testing.assert_close(dlr(logits, slice(0, 8)), APGDAttack(None, eps=1.0).dlr_loss(logits, labels))
    two = LabelCriterion(labels.clamp(max=1), loss="dlr")(logits[:, :2], slice(0, 8))  # nothing to divide by
    torch.testing.assert_close(two, LabelCriterion(labels.clamp(max=1), loss="margin")(logits[:, :2], slice(0, 8)))


def test_the_process_is_left_as_it_was() -> None:
    model, x = Linear(), images(2)
    state, level, trace = torch.get_rng_state(), logging.getLogger("auto-attack").level, sys.gettrace()
    attack = AutoAttack(eps=0.1, version="custom", attacks=("apgd-ce",))
    craft(attack, x, objective(model, model(x).argmax(1)), Context(keys(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.getLogger("auto-attack").level == level and sys.gettrace() is trace


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks that survive must run: nothing falls at this radius, so each of them gets every image."""
    model, x = Linear(classes), images(2)
    attack = AutoAttack(eps=1e-6)
    monkeypatch.setattr(autoattack, "QUERIES", 5)  # slow, not special
    assert attack.chosen(classes) == ["apgd-ce", *["apgd-t"] * (classes > 3), "fab-t", "square"]
    found = craft(attack, x, objective(model, model(x).argmax(1)), Context(keys(2))).images
    assert torch.equal(found, x)


def test_attacks_that_need_more_classes_are_refused() -> None:
    attack = AutoAttack(version="custom", attacks=("apgd-ce", "apgd-dlr"))
    attack.check(3)
    with pytest.raises(UserError, match="apgd-dlr needs at least 3 classes, and the head has 2"):
        attack.check(2)
    AutoAttack(version="plus").check(2)


def test_l2_stays_inside_its_radius() -> None:
    model, x = Linear(), images(6)
    labels = model(x).argmax(1)
    attack = AutoAttack(norm="l2", eps=0.3, version="custom", attacks=("apgd-ce", "fab-t"))
    found = craft(attack, x, objective(model, labels), Context(keys(6))).images
    length = (found - x).flatten(1).norm(dim=1)
    assert (length <= 0.3 * (1 + 1e-5)).all() and (length > 0).any()
    assert ((model(found).argmax(1) != labels) == (length > 0)).all()


def test_a_changing_surrogate_is_frozen_at_its_first_step() -> None:
    plain, other = Linear(), Linear(10, 3 * 8 * 8)
    other.weight = other.weight.flip(0)
    asked: list[Step] = []

    class Changing:
        def members(self, step: Step) -> Sequence[tuple[float, Model]]:
            asked.append(step)
            return [(0.5, plain), (0.5, other)]

    def both(x: Tensor) -> Tensor:
        return 0.5 * plain(x) + 0.5 * other(x)

    x = images(3)
    labels = both(x).argmax(1)
    attack = AutoAttack(eps=0.05, version="custom", attacks=("apgd-ce",))
    found = craft(attack, x, Objective(Changing(), LabelCriterion(labels)), Context(keys(3))).images
    expected = craft(attack, x, objective(both, labels), Context(keys(3))).images
    torch.testing.assert_close(found, expected)
    assert set(asked) == {Step(0, 0)} and not torch.equal(found, x)
