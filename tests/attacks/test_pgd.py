"""PGD against independent references and its invariants."""

from __future__ import annotations

import re
from collections.abc import Sequence

import foolbox
import pytest
import torch
from torch import Tensor, nn

from rtok.attacks import APGD, PGD, Context, FeatureCriterion, FixedSurrogate, LabelCriterion, Objective, craft
from rtok.attacks.objective import Model, Step
from rtok.errors import UserError

STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8 * 10 * 10, 5)).eval()
    return network.requires_grad_(False)


@pytest.fixture
def images() -> Tensor:
    # Multiples of 1/255 with black and white pixels, so that both the box and the quantization matter.
    return torch.randint(0, 256, (6, 3, 12, 12), generator=torch.Generator().manual_seed(1)).float() / 255


@pytest.fixture
def objective(network: nn.Module) -> Objective:
    return Objective(FixedSurrogate(network), LabelCriterion(torch.tensor([0, 1, 2, 3, 4, 0])))


def keys(images: Tensor) -> list[str]:
    return [f"image{b}.png" for b in range(len(images))]


def test_linf_equals_foolbox(network: nn.Module, images: Tensor, objective: Objective) -> None:
    pgd = PGD(eps=4 / 255, step=1 / 255, steps=10, init="none", quantize="none")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=1 / 255, steps=10, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, expected, _ = attack(model, images, torch.tensor([0, 1, 2, 3, 4, 0]), epsilons=4 / 255)
    torch.testing.assert_close(craft(pgd, images, objective).images, expected, rtol=0, atol=1e-6)


def test_l2_equals_foolbox(network: nn.Module, images: Tensor, objective: Objective) -> None:
    pgd = PGD(norm="l2", eps=0.5, step=0.1, steps=10, init="none", quantize="none")
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.1, steps=10, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, expected, _ = attack(model, images, torch.tensor([0, 1, 2, 3, 4, 0]), epsilons=0.5)
    # foolbox clips to [0, 1] after projecting, as ours does; both follow the normalized gradient.
    torch.testing.assert_close(craft(pgd, images, objective).images, expected, rtol=0, atol=1e-5)


def test_normalized_units_equal_pgd_in_normalized_space(network: nn.Module, images: Tensor) -> None:
    """The paper's PGD, written out in normalized space as the paper does it."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    eps, step = 8 / 255, 1e-2
    clean = (images - mean) / STD
    low, high = (0 - mean) / STD, (1 - mean) / STD
    x = clean.clone()
    for _ in range(5):
        x.requires_grad_(True)
        loss = nn.functional.cross_entropy(network(x), labels, reduction="sum")
        # The MSE of pixels in [0, 1], per image.
        loss = loss - (((x - clean) * STD) ** 2).mean((1, 2, 3)).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        x = (clean + (x.detach() + step * gradient.sign() - clean).clamp(-eps, eps)).clamp(low, high)
    objective = Objective(FixedSurrogate(lambda i: network((i - mean) / STD)), LabelCriterion(labels))
    pgd = PGD(eps=eps, step=step, steps=5, units="normalized", init="none", mse_weight=1.0, quantize="none")
    torch.testing.assert_close(
        craft(pgd, images, objective, Context.of(images, std=STD)).images, x * STD + mean, rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("init", ["uniform", "gaussian", "none"])
@pytest.mark.parametrize("eps", [0.3 / 255, 8 / 255])
@pytest.mark.parametrize("units", ["pixel", "normalized"])
def test_linf_stays_inside_its_radius(images: Tensor, objective: Objective, init: str, eps: float, units: str) -> None:
    pgd = PGD(eps=eps, step=eps, steps=4, init=init, units=units, quantize="none")
    found = craft(pgd, images, objective, Context(keys(images), std=STD)).images
    radius = eps * STD if units == "normalized" else torch.full_like(STD, eps)
    moved = (found - images).abs()
    assert (moved <= radius + 1e-7).all()
    assert (moved.amax((0, 2, 3)) > 0.9 * radius.flatten()).all()  # and uses it
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("init", ["uniform", "gaussian", "none"])
@pytest.mark.parametrize("eps", [0.01, 1.0])
def test_l2_stays_inside_its_radius(images: Tensor, objective: Objective, init: str, eps: float) -> None:
    pgd = PGD(norm="l2", eps=eps, steps=8, init=init, quantize="none")
    found = craft(pgd, images, objective, Context(keys(images))).images
    length = (found - images).flatten(1).norm(dim=1)
    assert (length <= eps * (1 + 1e-5)).all() and (length > 0.5 * eps).all()
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize(("quantize", "beyond"), [("round", 0.5), ("floor", 1.0)])
def test_quantized_images_are_levels_close_to_the_radius(
    images: Tensor, objective: Objective, quantize: str, beyond: float
) -> None:
    pgd = PGD(eps=1.8 / 255, step=1 / 255, steps=4, quantize=quantize)
    found = craft(pgd, images, objective, Context(keys(images))).images
    levels = found * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert ((found - images).abs() * 255).max() <= 1.8 + beyond + 1e-4


def test_quantization_keeps_untouched_pixels(images: Tensor, objective: Objective) -> None:
    for quantize in ("round", "floor"):
        pgd = PGD(eps=1e-9, step=1e-9, steps=1, init="none", quantize=quantize)
        torch.testing.assert_close(craft(pgd, images, objective).images, images, rtol=0, atol=1e-7)


def test_an_image_does_not_depend_on_its_batch(network: nn.Module, images: Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    pgd = PGD(eps=8 / 255, steps=5, restarts=2, momentum=0.5, mse_weight=1.0, max_mse=2e-4, quantize="none")
    together = craft(
        pgd, images, Objective(FixedSurrogate(network), LabelCriterion(labels)), Context(keys(images))
    ).images
    for b in reversed(range(len(images))):
        one = slice(b, b + 1)
        alone = craft(
            pgd,
            images[one],
            Objective(FixedSurrogate(network), LabelCriterion(labels[one])),
            Context(keys(images)[one]),
        ).images
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-6)


def test_micro_batches_change_nothing(network: nn.Module, images: Tensor, objective: Objective) -> None:
    pgd = PGD(steps=5, quantize="none")
    small = Objective(objective.surrogate, objective.criterion, micro_batch=4)
    expected = craft(pgd, images, objective, Context(keys(images)))
    found = craft(pgd, images, small, Context(keys(images)))
    torch.testing.assert_close(found.images, expected.images, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.loss, expected.loss)


def test_noise_belongs_to_key_seed_and_visit(images: Tensor, objective: Objective) -> None:
    pgd = PGD(steps=1, step=1e-12, quantize="none")
    objective = Objective(objective.surrogate, LabelCriterion(torch.zeros(4, dtype=torch.long)))
    same = [images[:1]] * 4
    batch = torch.cat(same)
    start = craft(pgd, batch, objective, Context(["a", "b", "a", "a"], visits=[0, 0, 0, 1], seed=3)).images
    assert torch.equal(start[0], start[2])
    assert not torch.equal(start[0], start[1]) and not torch.equal(start[0], start[3])
    assert not torch.equal(start[:1], craft(pgd, images[:1], objective, Context(["a"], seed=4)).images)


def test_restarts_keep_the_stronger_image(images: Tensor, objective: Objective) -> None:
    one, many = (craft(PGD(eps=4 / 255, steps=2, restarts=r), images, objective, Context(keys(images))) for r in (1, 8))
    first, best = (objective.loss(found.images, Step(0, 0)) for found in (one, many))
    assert (best >= first - 1e-6).all() and (best > first + 1e-4).any()


def test_max_mse_stops_each_image_by_itself(images: Tensor, objective: Objective) -> None:
    limit = 2e-5
    free = craft(PGD(eps=8 / 255, step=1 / 255, steps=8, init="none", quantize="none"), images, objective).images
    bound = PGD(eps=8 / 255, step=1 / 255, steps=8, init="none", quantize="none", max_mse=limit)
    stopped = craft(bound, images, objective).images
    mse = (stopped - images).square().mean((1, 2, 3))
    assert (mse >= limit).all()  # it stops once the limit is reached ...
    assert (mse < 4 * limit).all()  # ... one step of 1/255 after the step before was still below it
    assert ((free - images).square().mean((1, 2, 3)) > 8 * limit).all()


def test_momentum_is_mi_fgsm(network: nn.Module, images: Tensor, objective: Objective) -> None:
    """Two steps by hand: g1 = n1, g2 = mu * g1 + n2 with gradients divided by their mean magnitude."""
    eps = step = 2 / 255
    labels = torch.tensor([0, 1, 2, 3, 4, 0])

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_(True)
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(network(x), labels, reduction="sum"), x)
        return g / g.abs().mean((1, 2, 3), keepdim=True)

    first = gradient(images)
    x = (images + step * first.sign()).clamp(0, 1)
    x = x + step * (0.9 * first + gradient(x)).sign()
    expected = (images + (x - images).clamp(-eps, eps)).clamp(0, 1)
    pgd = PGD(eps=eps, step=step, steps=2, init="none", momentum=0.9, quantize="none")
    torch.testing.assert_close(craft(pgd, images, objective).images, expected, rtol=0, atol=1e-6)


def test_only_the_images_get_a_gradient(network: nn.Module, images: Tensor, objective: Objective) -> None:
    network.requires_grad_(True)
    craft(PGD(steps=2), images, objective)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_feature_objective_lowers_the_cosine(network: nn.Module, images: Tensor) -> None:
    target = network(images)
    objective = Objective(FixedSurrogate(network), FeatureCriterion(target, "channel"))
    found = craft(PGD(steps=10), images, objective, Context(keys(images)))
    similarity = nn.functional.cosine_similarity(network(found.images), target, dim=-1)
    assert (similarity < 0.99).all()
    assert ((-found.loss) < 1).all()


def test_images_outside_the_box_are_refused(objective: Objective) -> None:
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        craft(PGD(), torch.full((1, 3, 12, 12), 1.5), objective)
    with pytest.raises(UserError, match="std"):
        craft(PGD(units="normalized"), torch.zeros(1, 3, 12, 12), objective)


@pytest.mark.parametrize("restarts", [1, 2])
def test_an_image_that_fooled_the_model_on_the_way_is_kept(restarts: int) -> None:
    """Class 1 wins in a narrow band of brightness, which the second step leaves towards a larger loss."""

    def model(images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))[:, None]
        inside = (mean > 0.5) & (mean < 0.53)
        right = torch.tensor([[0.1, 0.0, 0.0]]) - mean * torch.tensor([[1e-3, 0.0, 0.0]])
        return torch.where(inside, right + torch.tensor([[-0.1, 0.5, -9.0]]), right)

    clean = torch.tensor([0.45, 0.2]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    objective = Objective(FixedSurrogate(model), LabelCriterion(torch.zeros(2).long()))
    found = craft(PGD(eps=0.1, step=0.06, steps=2, restarts=restarts, init="none"), clean, objective)
    means = found.images.mean((1, 2, 3))
    assert means[0] == pytest.approx(0.51, abs=0.002) and means[1] == pytest.approx(0.3, abs=0.002)
    # Only the image that fooled it is looked at again: there and at its end.
    assert found.gradients.tolist() == [2 * restarts] * 2
    assert (found.forwards - found.gradients).tolist() == ([2, 0] if restarts == 1 else [6, 2])


def test_an_image_that_fools_at_its_end_stays_there_and_is_looked_at_once() -> None:
    """Class 1 wins above a brightness that the first step crosses; the second goes on."""

    def model(images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)

    clean = torch.tensor([0.48, 0.2]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    objective = Objective(FixedSurrogate(model), LabelCriterion(torch.zeros(2).long()))
    found = craft(PGD(eps=0.2, step=0.05, steps=3, init="none"), clean, objective)
    assert found.images.mean((1, 2, 3)).tolist() == pytest.approx([0.63, 0.35], abs=0.002)
    assert (found.forwards - found.gradients).tolist() == [1, 0]


def test_a_step_asks_for_the_draws_that_are_set(network: nn.Module, images: Tensor) -> None:
    asked: list[Step] = []

    class Asked(FixedSurrogate):
        def members(self, step: Step) -> Sequence[tuple[float, Model]]:
            asked.append(step)
            return super().members(step)

    objective = Objective(Asked(network), FeatureCriterion(network(images), "channel"))
    found = craft(PGD(steps=2, draws=3), images, objective)
    assert asked == [Step(0, 0, 3), Step(0, 1, 3)] and found.gradients.tolist() == [2] * 6  # a fixed one has one draw
    craft(APGD(steps=2, draws=4), images, objective)
    assert asked[2:] == [Step(0, 0, 4), Step(0, 1, 4), Step(0, 2, 4)]


def test_momentum_ends_at_the_radius(images: Tensor) -> None:
    """Published: as many steps of radius / steps, from the image itself."""
    preset = PGD(preset="momentum", eps=0.05, quantize="none")
    assert (preset.settings.steps, preset.settings.momentum, preset.settings.init) == (10, 1.0, "none")
    brighter = Objective(FixedSurrogate(lambda x: x.flatten(1)), FeatureCriterion(-torch.ones(6, 432), "channel"))
    inner = images.clamp(0.2, 0.8)
    moved = []
    for steps in (3, 10):
        found = craft(PGD(momentum=1.0, steps=steps, init="none", eps=0.05, quantize="none"), inner, brighter)
        moved.append((found.images - inner).abs().amax())
    assert moved[0] == pytest.approx(0.05, abs=1e-6) and moved[1] == pytest.approx(0.05, abs=1e-6)
    one = craft(PGD(momentum=1.0, steps=10, init="none", eps=0.05, quantize="none", max_mse=1e-9), inner, brighter)
    torch.testing.assert_close((one.images - inner).abs().amax(), torch.tensor(0.005))  # a single step: a tenth


def test_settings_come_as_keywords() -> None:
    assert (PGD(eps=0.1, steps=5).settings.eps, PGD(preset="paper").settings.mse_weight) == (0.1, 1.0)
    for options, message in (
        ({"eps": -1}, "eps: -1 was given; valid: more than 0"),
        ({"norm": "l3"}, 'norm: "l3" was given; valid: linf or l2'),
        ({"stepz": 3}, "stepz: unknown key. Did you mean 'step'?"),
        ({"queries": 3}, "method pgd does not use queries"),
        ({"method": "square"}, 'method: "square" was given; valid: pgd'),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            PGD(**options)
    with pytest.raises(UserError, match="not both"):
        PGD(PGD().settings, eps=0.1)
