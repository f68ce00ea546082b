"""No step of an attack waits for a GPU: counted on the CPU, for every registered attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rtok.attacks import Context, FeatureCriterion, FixedSurrogate, LabelCriterion, MaskCriterion, Objective, autoattack
from rtok.attacks import square as square_attack
from rtok.attacks.base import Perturbed, build, craft
from rtok.attacks.objective import Step
from rtok.config.attack import read_attack
from rtok.config.registry import ATTACKS
from tests.attacks.devices import Waits

STEPS = 4
B, SIDE, CLASSES = 3, 28, 5
# Attacks by steps or queries; a search asks once in many queries who is done. FAB, of AutoAttack, is pyautoattack's and
# asks at every step.
ON_LABELS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "pgd": lambda n: [
        {"method": "pgd", "steps": n},
        {"method": "pgd", "steps": n, "momentum": 0.9, "mse_weight": 1.0, "max_mse": 1e-3, "restarts": 2},
        {"method": "pgd", "steps": n, "norm": "l2", "eps": 1.0, "diversity": 0.5, "loss": "dlr"},
    ],
    "apgd": lambda n: [
        {"method": "apgd", "steps": n, "loss": "margin"},
        {"method": "apgd", "steps": n, "norm": "l2", "eps": 1.0, "shrink": True},
    ],
    "square": lambda n: [{"method": "square", "queries": n}],
    "autoattack": lambda n: [{"method": "autoattack", "version": "custom", "attacks": ["apgd-ce", "apgd-t", "square"]}],
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(B, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)).requires_grad_(False)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(square_attack, "asked_every", lambda device: square_attack.ASKED_EVERY)


def waits_of(attack: Any, images: Tensor, objective: Objective) -> int:
    with Waits(images) as waits:
        craft(attack, images, objective, Context.of(images))
    return waits.count


def per_step(make: Callable[[int], Any], images: Tensor, objective: Objective) -> float:
    """How often a further step makes the host wait, beside what an attack does once."""
    few, many = (waits_of(make(steps), images, objective) for steps in (STEPS, 3 * STEPS))
    assert few > 0, "the checks around an attack were to be counted"
    return (many - few) / (2 * STEPS)


@pytest.mark.parametrize("method", [name for name in ATTACKS if name != "from"])
def test_no_step_on_labels_waits(
    method: str, images: Tensor, classifier: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = classifier(images).argmax(1)
    objective = Objective(FixedSurrogate(classifier), LabelCriterion(labels))
    for which in range(len(ON_LABELS[method](STEPS))):

        def make(steps: int, which: int = which) -> Any:
            monkeypatch.setattr(autoattack, "STEPS", steps)
            monkeypatch.setattr(autoattack, "QUERIES", steps)
            return build(read_attack({"eps": 1e-4, **ON_LABELS[method](steps)[which]}))

        searches = "square" in repr(ON_LABELS[method](STEPS)[which])
        assert per_step(make, images, objective) <= (2 / square_attack.ASKED_EVERY if searches else 0)


def test_no_step_on_features_or_masks_waits(images: Tensor, tiny: Callable[..., Any]) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=SIDE)
    with torch.no_grad():
        target = backbone(images)
    segmenter = nn.Conv2d(3, CLASSES, 3, padding=1).requires_grad_(False)
    masks = torch.randint(0, CLASSES, (B, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    objectives = [Objective(FixedSurrogate(backbone), FeatureCriterion(target, "token"), micro_batch=2)]
    for loss in ("balanced-cross-entropy", "dlr"):
        objectives.append(Objective(FixedSurrogate(segmenter), MaskCriterion(masks, loss=loss)))
    for objective in objectives:
        assert per_step(lambda n: build(read_attack({"steps": n})), images, objective) == 0
    backbone.half_gradients = True
    objective = Objective(FixedSurrogate(backbone), FeatureCriterion(target, "channel", "cls"))
    assert per_step(lambda n: build(read_attack({"method": "apgd", "steps": n})), images, objective) == 0


@pytest.mark.parametrize(
    "look",
    [
        lambda x: float(x.amax()),
        lambda x: bool((x > 1).any()),
        lambda x: x.flatten().sort().values[:3].tolist(),
        lambda x: x[x > 0.5],
        lambda x: x.clone().masked_fill_(x > 2, 0).__setitem__(x > 0.9, 0.9),
        lambda x: (x > 0.5).nonzero(),
        lambda x: x.mean().cpu(),
        lambda x: torch.where(x > 0.5),
    ],
)
def test_a_step_that_waits_is_noticed(look: Callable[[Tensor], object], images: Tensor, classifier: nn.Module) -> None:
    objective = Objective(FixedSurrogate(classifier), LabelCriterion(torch.zeros(B).long()))

    class Impatient:
        def __init__(self, steps: int) -> None:
            self.settings, self.steps = read_attack({}), steps

        def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
            x = images
            for k in range(self.steps):
                loss, gradient = objective.loss_and_gradient(x, Step(0, k))
                x = (x + 0.001 * gradient.sign()).clamp(0, 1)
                look(x)
                torch.rand(3).tolist()  # of the host's own
            return Perturbed(x, loss)

    assert per_step(Impatient, images, objective) == 1


def test_asking_seldom_who_is_done_changes_nothing(images: Tensor, classifier: nn.Module) -> None:
    labels = classifier(images).argmax(1)
    labels[0] = (labels[0] + 1) % CLASSES  # done at once
    objective = Objective(FixedSurrogate(classifier), LabelCriterion(labels, loss="margin"))
    square = build(read_attack({"method": "square", "eps": 2 / 255, "queries": 100}))
    seldom = craft(square, images, objective, Context.of(images))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(square_attack, "asked_every", lambda device: 1)
        always = craft(square, images, objective, Context.of(images))
    assert always.forwards[0] == 1 < always.forwards.max() and len(set(always.forwards.tolist())) == B
    for name in ("images", "loss", "forwards", "gradients"):
        assert torch.equal(getattr(seldom, name), getattr(always, name)), name
