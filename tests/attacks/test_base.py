"""What `craft` vouches for, whatever the attack does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rtok.attacks import (
    APGD,
    PGD,
    Attack,
    Context,
    Crafted,
    FeatureCriterion,
    FixedSurrogate,
    LabelCriterion,
    Objective,
    Perturbed,
    build,
    craft,
)
from rtok.attacks.objective import Model, Step
from rtok.attacks.square import Square
from rtok.config.attack import AttackConfig, read_attack
from rtok.errors import UserError

STD = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def pictures(count: int = 4, seed: int = 0) -> Tensor:
    """8-bit images with blacks and whites among them."""
    random = torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    return ((random * 1.4 - 0.2).clamp(0, 1) * 255).round() / 255


def objective(micro_batch: int | None = None) -> Objective:
    """Away from half-gray features of a smooth model, the same for every image."""
    target = torch.full((8, 1, 12), 0.5)

    def model(images: Tensor) -> Tensor:
        return torch.sin(3 * images.flatten(1)[:, None, :12])

    return Objective(FixedSurrogate(model), FeatureCriterion(target, "channel"), micro_batch)


@dataclass
class Foreign:
    """An attack from outside: it adds the same change to every image."""

    change: Tensor
    settings: AttackConfig = field(default_factory=AttackConfig)

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        return Perturbed(images + self.change, images.new_zeros(len(images)))


@QUICK
@given(
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(1e-3, 2.0),
    units=st.sampled_from(["pixel", "normalized"]),
    size=st.floats(0.0, 5.0),
    seed=st.integers(0, 99),
)
def test_an_attack_that_leaves_the_ball_or_the_box_is_brought_back(
    norm: str, eps: float, units: str, size: float, seed: int
) -> None:
    clean, eps = pictures(), min(eps, 1.0) if (norm, units) == ("linf", "pixel") else eps
    change = size * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    config = AttackConfig(norm=norm, eps=eps, units=units, quantize="none")  # type: ignore[arg-type]
    found = craft(Foreign(change, config), clean, objective(), Context.of(clean, std=STD)).images
    assert found.min() >= 0 and found.max() <= 1
    delta = ((found - clean) / (STD if units == "normalized" else 1)).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert (length <= eps + 4e-6).all()


def test_an_attack_that_stays_inside_keeps_its_bits() -> None:
    clean, change = pictures().clamp(0.1, 0.9), torch.full((4, 3, 4, 5), 0.03)
    change[1] = 0.5
    found = craft(Foreign(change, AttackConfig(quantize="none")), clean, objective()).images
    kept = [0, 2, 3]
    assert torch.equal(found[kept], (clean + change)[kept])
    torch.testing.assert_close(found[1], clean[1] + 8 / 255)


@pytest.mark.parametrize("how", ["round", "floor"])
def test_the_result_is_quantized(how: str) -> None:
    clean = pictures()
    config = AttackConfig(quantize=how)  # type: ignore[arg-type]
    found = craft(Foreign(torch.tensor(2.4 / 255), config), clean.clamp(max=0.9), objective()).images
    torch.testing.assert_close(found * 255, (found * 255).round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_refused(wrong: float) -> None:
    change = torch.zeros(4, 3, 4, 5)
    change[2, 1, 0, 0] = wrong
    with pytest.raises(UserError, match="attack pgd returned images with NaN or infinite values"):
        craft(Foreign(change), pictures(), objective())


def test_another_shape_is_refused() -> None:
    class Cropped(Foreign):
        def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
            return Perturbed(images[..., 1:], images[:, 0, 0, 0])

    class OneLoss(Foreign):
        def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
            return Perturbed(images, images.sum())

    with pytest.raises(UserError, match=r"images of shape \(4, 3, 4, 4\) for .*\(4, 3, 4, 5\)"):
        craft(Cropped(torch.zeros(1)), pictures(), objective())
    with pytest.raises(UserError, match=r"losses of shape \(\)"):
        craft(OneLoss(torch.zeros(1)), pictures(), objective())


def test_images_outside_the_box_are_refused() -> None:
    for wrong in (1.5, -0.5, float("nan")):
        with pytest.raises(UserError, match=rf"from {wrong:g} to {wrong:g}; they must lie in \[0, 1\]"):
            craft(PGD(), torch.full((1, 3, 4, 5), wrong), objective())
    for shape in ((3, 4, 5), (1, 1, 4, 5)):
        with pytest.raises(UserError, match=rf"the shape {re.escape(str(shape))}; valid: \(B, 3, H, W\)"):
            craft(PGD(), torch.zeros(shape), objective())
    with pytest.raises(UserError, match=r"of type torch\.uint8; valid: floating-point values"):
        craft(PGD(), torch.zeros(1, 3, 4, 5, dtype=torch.uint8), objective())


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_passes_are_counted_per_image(micro_batch: int | None) -> None:
    def counts(found: Crafted) -> tuple[int, int]:
        (passes,) = set(zip(found.gradients.tolist(), found.forwards.tolist(), strict=True)) or {(0, 0)}
        return passes

    clean = pictures()
    assert counts(craft(PGD(steps=3), clean, objective(micro_batch))) == (3, 3)
    # Several restarts are compared by a forward pass each.
    assert counts(craft(PGD(steps=3, restarts=2), clean, objective(micro_batch))) == (6, 8)
    assert counts(craft(Square(queries=7), clean, objective(micro_batch))) == (0, 7)
    assert counts(craft(PGD(steps=3), clean[:0], objective(micro_batch))) == (0, 0)

    class Pair:
        def members(self, step: Step) -> list[tuple[float, Model]]:
            return [(0.5, objective().surrogate.members(step)[0][1])] * 2

    pair = Objective(Pair(), objective().criterion, micro_batch)
    assert counts(craft(PGD(steps=3), clean, pair)) == (6, 6)


@pytest.mark.parametrize("attack", [PGD(steps=3, restarts=2), APGD(steps=3, restarts=2), Square(queries=9)])
def test_a_result_does_not_depend_on_the_batch(attack: Attack) -> None:
    clean, keys = pictures(), ["a", "b", "c", "d"]
    whole = craft(attack, clean, objective(), Context(keys))
    parts = craft(attack, clean, objective(micro_batch=3), Context(keys))
    assert torch.equal(parts.images, whole.images)
    for b in reversed(range(4)):
        alone = craft(attack, clean[b : b + 1], objective(), Context(keys[b : b + 1]))
        assert torch.equal(alone.images[0], whole.images[b]) and torch.equal(alone.loss[0], whole.loss[b])
        assert (alone.gradients[0], alone.forwards[0]) == (whole.gradients[b], whole.forwards[b])


def test_settings_build_their_algorithm() -> None:
    for method in ("pgd", "apgd", "square", "autoattack"):
        config = read_attack({"method": method, "eps": 0.1})
        assert build(config).settings is config and type(build(config)).__name__.lower() == method


def test_whom_a_surrogate_of_several_members_fools() -> None:
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])

    class Pair:
        def members(self, step: Step) -> list[tuple[float, Model]]:
            return [(0.25, lambda x: right.expand(len(x), 2)), (0.75, lambda x: wrong.expand(len(x), 2))]

    scored = Objective(Pair(), LabelCriterion(torch.tensor([0, 1, 255])))
    loss, fooled = scored.score(torch.zeros(3, 3, 1, 1), Step(0, 0))
    assert fooled.tolist() == [0.75, 0.25, 0.0] and loss[0] > loss[1] > loss[2] == 0
