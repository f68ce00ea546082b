"""What every PGD result has to be, whatever the settings: hypothesis looks for settings that break it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rtok.attacks import PGD, Context, FixedSurrogate, Objective, craft
from rtok.attacks.objective import Chosen

MEAN_STD = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]
QUICK = settings(max_examples=80, deadline=None, derandomize=True)


class Largest:
    """A criterion that takes the output for the loss."""

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        return output

    def fooled(self, output: Tensor, images: Chosen) -> Tensor:
        return torch.zeros(len(output), dtype=torch.bool)

    def solved(self, loss: Tensor) -> Tensor:
        return torch.zeros_like(loss, dtype=torch.bool)


def wavy(frequency: float) -> Objective:
    """An objective with a gradient of every size and sign, for each image on its own."""

    def model(images: Tensor) -> Tensor:
        waves = (frequency * images + torch.arange(images[0].numel()).view_as(images[0])).sin()
        return waves.flatten(1).sum(1)

    return Objective(FixedSurrogate(model), Largest())


@st.composite
def attacks(draw: st.DrawFn) -> PGD:
    norm, units = draw(st.sampled_from(["linf", "l2"])), draw(st.sampled_from(["pixel", "normalized"]))
    return PGD(
        norm=norm,
        eps=draw(st.floats(1e-4, 1.0 if (norm, units) == ("linf", "pixel") else 4.0)),
        step=draw(st.none() | st.floats(1e-5, 4.0)),
        steps=draw(st.integers(1, 4)),
        units=units,
        restarts=draw(st.integers(1, 3)),
        init=draw(st.sampled_from(["uniform", "gaussian", "none"])),
        momentum=draw(st.sampled_from([0.0, 0.9])),
        mse_weight=draw(st.sampled_from([0.0, 1.0])),
        max_mse=draw(st.none() | st.floats(1e-6, 0.1)),
        quantize=draw(st.sampled_from(["round", "floor", "none"])),
    )


def pictures(seed: int, count: int = 3) -> Tensor:
    """8-bit images with blacks and whites among them."""
    random = torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    return ((random * 1.4 - 0.2).clamp(0, 1) * 255).round() / 255


def run(attack: PGD, images: Tensor, keys: list[str], frequency: float) -> Tensor:
    return craft(attack, images, wavy(frequency), Context(keys, std=MEAN_STD, seed=1)).images


@QUICK
@given(attack=attacks(), seed=st.integers(0, 99), frequency=st.floats(0.0, 50.0))
def test_the_result_is_an_image_within_the_radius(attack: PGD, seed: int, frequency: float) -> None:
    images = pictures(seed)
    found = run(attack, images, ["a", "b", "c"], frequency)
    assert found.shape == images.shape and found.dtype == images.dtype and found.isfinite().all()
    assert found.min() >= 0 and found.max() <= 1
    scale = MEAN_STD if attack.settings.units == "normalized" else torch.ones(1, 1, 1, 1)
    delta = (found - images) / scale
    # beyond the radius lies at most what quantization adds: half a level of 255, or one
    level = {"none": 0.0, "round": 0.5 / 255, "floor": 1 / 255}[attack.settings.quantize]
    added = level / scale.expand_as(images[:1])
    if attack.settings.norm == "linf":
        assert ((delta.abs() - attack.settings.eps - added) <= 1e-5).all()
    else:
        assert (delta.flatten(1).norm(dim=1) <= attack.settings.eps + added.norm() + 1e-4).all()
    if attack.settings.quantize != "none":
        torch.testing.assert_close(found * 255, (found * 255).round(), rtol=0, atol=1e-4)


@QUICK
@given(attack=attacks(), seed=st.integers(0, 99), frequency=st.floats(0.0, 50.0), order=st.permutations(range(3)))
def test_an_images_result_is_its_own(attack: PGD, seed: int, frequency: float, order: list[int]) -> None:
    images, keys = pictures(seed), ["a", "b", "c"]
    together = run(attack, images, keys, frequency)
    shuffled = run(attack, images[order], [keys[i] for i in order], frequency)
    assert torch.equal(shuffled, together[order])
    alone = run(attack, images[1:2], keys[1:2], frequency)
    assert torch.equal(alone, together[1:2])


@QUICK
@given(attack=attacks(), seed=st.integers(0, 99), frequency=st.floats(0.0, 50.0))
def test_the_clean_images_are_left_alone(attack: PGD, seed: int, frequency: float) -> None:
    images = pictures(seed)
    before = images.clone()
    first = run(attack, images, ["a", "b", "c"], frequency)
    assert torch.equal(images, before)
    assert torch.equal(run(attack, images, ["a", "b", "c"], frequency), first)
