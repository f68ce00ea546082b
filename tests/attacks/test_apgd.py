"""Auto-PGD against a public implementation, its schedule, and its invariants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, LabelCriterion, MaskCriterion, Objective, craft
from rtok.attacks.apgd import APGD, checkpoints, shrinking
from rtok.attacks.ball import per_image
from rtok.attacks.objective import Model, Step
from rtok.config.attack_methods import APGDConfig

STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def toy() -> nn.Module:
    """A small network whose loss surface is rough enough for steps of every size, in double precision."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten())
    network.append(nn.Linear(8 * 8 * 8, 5))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network.double().eval().requires_grad_(False)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (6, 3, 12, 12), generator=generator).double() / 255


def recorded(model: Model) -> tuple[Model, list[Tensor]]:
    """The model, and a list of what it is asked."""
    asked: list[Tensor] = []

    def record(images: Tensor) -> Tensor:
        asked.append(images.detach().clone())
        return model(images)

    return record, asked


@pytest.fixture
def double() -> Iterator[None]:
    """Double precision, also inside the public implementation: one sign that tips over changes all that follows."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.7)])
def test_every_iterate_is_that_of_a_public_implementation(images: Tensor, norm: str, eps: float) -> None:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    noise = noise.sign() if norm == "linf" else noise / per_image(noise.flatten(1).norm(dim=1))
    start, labels = (images + 0.5 * eps * noise).clamp(0, 1), toy()(images).argmax(1)

    model, theirs = recorded(toy())
    public = APGDAttack(model, n_iter=100, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps)
    public.init_hyperparam(images)
    public.attack_single_run(images, labels, x_init=start)

    model, ours = recorded(toy())
    objective = Objective(FixedSurrogate(model), LabelCriterion(labels))
    attack = APGD(norm=norm, eps=eps, quantize="none")
    found = craft(attack, images, objective, Context.of(images, start=start))

    assert len(ours) == len(theirs) == 101
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=0, atol=1e-9)
    assert (found.gradients == 100).all() and (found.forwards == 101).all()
    # Of all of them the strongest comes back.
    looks = [objective.score(x, Step(0, 0)) for x in theirs]
    loss, fooled = torch.stack([loss for loss, _ in looks]), torch.stack([fooled for _, fooled in looks]) > 0
    assert fooled.any(0).sum() >= 4
    torch.testing.assert_close(found.loss, loss.where(fooled | ~fooled.any(0), -torch.inf).amax(0))
    torch.testing.assert_close(objective.loss(found.images, Step(0, 0)), found.loss)


def test_the_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]  # what the public implementation has too
    assert checkpoints(30) == [7, 13, 18, 21, 24, 27, 28, 30]
    assert checkpoints(1) == [1] and checkpoints(2) == [1, 2]


@pytest.fixture
def network() -> nn.Module:
    """A smooth one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8 * 10 * 10, 5)).eval()
    return network.double().requires_grad_(False)


def objective_of(network: nn.Module, images: Tensor, objective: str) -> Objective:
    output = network(images)
    criteria = {
        "labels": LabelCriterion(output.argmax(1)),
        "dlr": LabelCriterion(output.argmax(1), loss="dlr"),
        "features": FeatureCriterion(output, "channel"),
    }
    return Objective(FixedSurrogate(network), criteria[objective])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("units", ["pixel", "normalized"])
@pytest.mark.parametrize("objective", ["labels", "dlr", "features"])
def test_it_stays_in_the_ball_and_beats_pgd(
    images: Tensor, network: nn.Module, norm: str, units: str, objective: str
) -> None:
    options: dict[str, Any] = {"norm": norm, "units": units, "quantize": "none"}
    options["eps"] = (8 / 255 if norm == "linf" else 0.5) / (0.225 if units == "normalized" else 1)
    goal, context = objective_of(network, images, objective), Context.of(images, std=STD)
    found = craft(APGD(steps=50, **options), images, goal, context)
    delta = (found.images - images) / (STD if units == "normalized" else 1)
    length = delta.abs().amax((1, 2, 3)) if norm == "linf" else delta.flatten(1).norm(dim=1)
    assert (length <= options["eps"] * (1 + 1e-5)).all() and found.images.min() >= 0 and found.images.max() <= 1
    pgd = craft(PGD(steps=50, **options), images, goal, context)
    (loss, fooled), (loss_pgd, fooled_pgd) = (goal.score(x.images, Step(0, 0)) for x in (found, pgd))
    assert fooled.sum() >= fooled_pgd.sum() and loss.mean() > loss_pgd.mean() - 0.005


def test_an_image_does_not_depend_on_its_batch(images: Tensor, network: nn.Module) -> None:
    labels = torch.arange(6) % 5
    attack, keys = APGD(steps=12, restarts=2, quantize="none"), [f"image{b}" for b in range(6)]

    def crafted(places: slice, micro_batch: int | None = None) -> Tensor:
        goal = Objective(FixedSurrogate(network), LabelCriterion(labels[places]), micro_batch)
        return craft(attack, images[places], goal, Context(keys[places], seed=5)).images

    together = crafted(slice(0, 6))
    torch.testing.assert_close(crafted(slice(0, 6), micro_batch=4), together, rtol=0, atol=1e-6)
    for b in reversed(range(6)):
        torch.testing.assert_close(crafted(slice(b, b + 1)), together[b : b + 1], rtol=0, atol=1e-6)


def test_restarts_and_a_warm_start(images: Tensor, network: nn.Module) -> None:
    goal = objective_of(network, images, "features")
    once, often = (craft(APGD(steps=3, restarts=r, quantize="none"), images, goal) for r in (1, 6))
    assert (often.loss >= once.loss).all() and (often.loss > once.loss + 1e-4).any()
    assert (often.gradients == 18).all() and (often.forwards == 30).all()  # four looks each, and one to compare
    warm = craft(APGD(steps=3, quantize="none"), images, goal, Context.of(images, start=often.images))
    assert (warm.loss >= often.loss - 1e-6).all()  # where it sets out counts too


def test_the_class_token_alone_is_pulled_away() -> None:
    torch.manual_seed(0)
    images, weights = torch.rand(4, 3, 8, 8), torch.randn(4 * 6, 3 * 8 * 8)

    def model(images: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ weights.T).view(-1, 4, 6)

    target, cosines = model(images), {}
    for features in ("all", "cls"):
        criterion = FeatureCriterion(target, "token", features)  # type: ignore[arg-type]
        found = craft(APGD(steps=20), images, Objective(FixedSurrogate(model), criterion)).images
        cosines[features] = nn.functional.cosine_similarity(model(found), target, dim=-1).mean(0)
    assert cosines["cls"][0] < cosines["all"][0] - 0.1  # the class token comes first
    assert cosines["cls"][1:].mean() > cosines["all"][1:].mean() + 0.1
    embedding = FeatureCriterion(target[:, 0], "channel", "cls")
    torch.testing.assert_close(
        embedding(target[:, 1], slice(0, 4)), FeatureCriterion(target, "channel", "cls")(target[:, 1:], slice(0, 4))
    )


def test_a_fooling_point_is_returned_over_one_with_a_larger_loss() -> None:
    """Three classes: the cross-entropy is larger where the right class narrowly wins."""
    narrow, wrong = torch.tensor([0.1, 0.0, 0.0]), torch.tensor([0.0, 0.5, -9.0])

    def model(images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))[:, None]
        return torch.where(mean > 0.5, wrong, narrow) - mean * torch.tensor([[1e-3, 0.0, 0.0]])

    goal = Objective(FixedSurrogate(model), LabelCriterion(torch.zeros(1).long()))
    clean = torch.full((1, 3, 1, 1), 0.45)
    found = craft(APGD(eps=0.1, steps=5, init="none", quantize="none"), clean, goal)
    assert found.images.mean() > 0.5 and found.loss < goal.loss(clean, Step(0, 0))


def test_a_shrinking_ball(images: Tensor, network: nn.Module) -> None:
    """Each radius goes on from where the last ended."""
    stages = shrinking(APGDConfig(preset="sea", eps=0.04))
    assert [(round(stage.eps, 9), stage.steps) for stage in stages] == [(0.08, 90), (0.06, 90), (0.04, 120)]
    assert [stage.steps for stage in shrinking(APGDConfig(steps=3, shrink=True))] == [3]
    goal, found = objective_of(network, images, "features"), None
    for eps, steps in [(2 / 64, 3), (1.5 / 64, 3), (1 / 64, 4)]:
        start = None if found is None else found.images
        found = craft(APGD(eps=eps, steps=steps, quantize="none"), images, goal, Context.of(images, start=start))
    shrunk = craft(APGD(eps=1 / 64, steps=10, shrink=True, quantize="none"), images, goal)
    assert found is not None and torch.equal(shrunk.images, found.images)
    assert (shrunk.images - images).abs().max() <= 1 / 64 + 1e-9


def test_the_point_with_the_most_wrong_pixels_is_returned(images: Tensor) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Tanh(), nn.Conv2d(8, 4, 1, bias=False)
    pixels = nn.Sequential(*layers).double().requires_grad_(False)
    model, asked = recorded(pixels)
    goal = Objective(FixedSurrogate(model), MaskCriterion(pixels(images).argmax(1), loss="masked-cross-entropy"))
    found = craft(APGD(eps=0.1, steps=20, quantize="none"), images, goal)
    looks = [goal.score(x, Step(0, 0)) for x in asked[:21]]
    losses, wrong = (torch.stack(values) for values in zip(*looks, strict=True))
    assert torch.equal(goal.score(found.images, Step(0, 0))[1], wrong.amax(0))
    of_largest_loss = wrong.gather(0, losses.argmax(0, keepdim=True))[0]
    assert (wrong.amax(0) > wrong[0]).all() and (wrong.amax(0) > of_largest_loss).any()
