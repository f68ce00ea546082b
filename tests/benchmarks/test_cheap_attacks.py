"""Each cheap attack stays in its ball and takes the gradients that it says, where it says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rtok
from rtok.attacks import FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.attacks.base import build
from rtok.attacks.objective import Step
from rtok.config.attack import read_attack
from rtok.config.defenses import DEFENSES
from rtok.errors import UserError
from rtok.models import Backbone
from rtok.plugins import load_plugin
from tests.tiny import Tiny

FILE = Path(__file__).parents[2] / "benchmarks" / "cheap_attacks.py"
EPS = 8 / 255


@pytest.fixture(autouse=True)
def plugin(forgotten: None) -> Any:
    return sys.modules[f"rtok_plugin_{load_plugin(FILE).sha256[:16]}"]


@pytest.fixture
def backbone(tiny: Callable[..., Tiny]) -> Backbone:
    return tiny("dinov2_vits14").load(image_size=56)  # 4 x 4 patches


def pictures(backbone: Backbone) -> Tensor:
    return torch.rand(3, 3, *backbone.image_size, generator=torch.Generator().manual_seed(1))


def objective_of(backbone: Backbone, model: Any, images: Tensor) -> Objective:
    return Objective(FixedSurrogate(model), FeatureCriterion(backbone(images), "channel"))


def attack(**options: Any) -> Any:
    return build(read_attack({"units": "normalized", "quantize": "none", **options}))


def shares(found: Tensor, images: Tensor, backbone: Backbone, eps: float = EPS) -> Tensor:
    """What was changed, as a share of the radius."""
    return (found - images) / (eps * backbone.std)


def defended(backbone: Backbone, kind: str) -> Any:
    section = DEFENSES.find(kind).section
    assert section is not None
    return DEFENSES.find(kind).load().create(section(), backbone, 0).model(backbone)


def test_n_fgsm_takes_one_gradient_and_leaves_the_radius_of_its_step(backbone: Backbone) -> None:
    images = 0.3 + 0.4 * pictures(backbone)  # far from black and white
    objective = objective_of(backbone, backbone, images)
    context = rtok.Context(["a", "b", "c"], std=backbone.std)
    found = craft(attack(method="n-fgsm"), images, objective, context)
    assert found.gradients.tolist() == found.forwards.tolist() == [1, 1, 1]
    change = shares(found.images, images, backbone)
    assert 2.9 < change.abs().max() <= 3 + 1e-3  # of the step's radius: two of noise, one of the gradient
    assert 0.4 < (change.abs() > 1).float().mean() < 0.7  # by chance a half; what clipping would have cut
    later = craft(attack(method="n-fgsm"), images, objective, replace(context, visits=[1, 1, 1])).images
    assert not torch.allclose(shares(later, images, backbone), change, atol=0.5)  # every visit has noise of its own
    clipped = craft(attack(method="n-fgsm", eps=EPS), images, objective, context).images
    torch.testing.assert_close(shares(clipped, images, backbone), change.clamp(-1, 1), rtol=0, atol=1e-3)


def test_n_fgsm_steps_along_the_gradient_at_the_noisy_image(backbone: Backbone) -> None:
    images = 0.3 + 0.4 * pictures(backbone)
    objective = objective_of(backbone, backbone, images)
    for share in (1.0, 0.5):
        context = rtok.Context(["a", "b", "c"], std=backbone.std, visits=[0, 1, 2])
        settings = read_attack({"method": "n-fgsm", "units": "normalized", "quantize": "none"}).scaled(share)
        found = build(settings).run(images, objective, context).images
        # whichever sign the step had, the noise it started from is the one whose gradient has this sign
        step = share * EPS * backbone.std
        assert (shares(found, images, backbone, share * EPS).abs() <= 3 + 1e-3).all()
        noise = build(settings.model_copy(update={"step": share * EPS})).run(
            images, replace(objective, criterion=_Flat()), context
        )
        direction = ((found - noise.images) / step).round()
        gradient = objective.loss_and_gradient(noise.images, Step(0, 0))[1]
        assert torch.equal(direction, gradient.sign())


class _Flat:
    """A criterion without slope: what an attack finds is where it started."""

    def __call__(self, output: Tensor, images: Any) -> Tensor:
        return 0 * output.flatten(1).sum(1)

    def fooled(self, output: Tensor, images: Any) -> Tensor:
        return output.new_zeros(len(output), dtype=torch.bool)

    def solved(self, loss: Tensor) -> Tensor:
        return torch.zeros_like(loss, dtype=torch.bool)


def test_warm_pgd_sets_out_from_what_it_found_on_the_last_visit(backbone: Backbone) -> None:
    images = 0.3 + 0.4 * pictures(backbone)
    objective = objective_of(backbone, backbone, images)
    one_step = attack(method="warm-pgd", steps=1, step=EPS / 4)
    visit = rtok.Context(["a", "b", "c"], std=backbone.std, visits=[0, 0, 0])
    first = shares(one_step.run(images, objective, visit).images, images, backbone)
    assert first.abs().max() <= 1 + 1e-4
    # the next visit has other crops, another order and twice the radius; without a slope it stays where it began
    again = replace(visit, keys=["c", "a", "d"], visits=[1, 1, 0])
    flat, wider = replace(objective, criterion=_Flat()), build(one_step.settings.scaled(2))
    second = shares(wider.run(1 - images, flat, again).images, 1 - images, backbone, 2 * EPS)
    torch.testing.assert_close(second[:2], first[[2, 0]], rtol=0, atol=1e-4)
    assert not torch.allclose(second[2], first[1], atol=0.1)  # never seen before: noise of its own
    # an evaluation has no visits, and starts from noise, as PGD does
    clean = replace(visit, visits=None)
    alone = attack(method="pgd", steps=1, step=EPS / 4).run(images, flat, clean).images
    torch.testing.assert_close(one_step.run(images, flat, clean).images, alone, rtol=0, atol=1e-6)


def test_warm_pgd_with_one_step_takes_one_gradient(backbone: Backbone) -> None:
    images = pictures(backbone)
    found = craft(
        attack(method="warm-pgd", steps=1),
        images,
        objective_of(backbone, backbone, images),
        rtok.Context(["e", "f", "g"], std=backbone.std, visits=[0, 0, 0]),
    )
    assert found.gradients.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["none", "tokens", "deep-tokens", "lora"])
def test_fewer_patches_computes_fewer_tokens_in_early_steps(backbone: Backbone, kind: str) -> None:
    images = pictures(backbone)
    model: Any = backbone if kind == "none" else defended(backbone, kind)
    own = getattr(getattr(model, "entry", None), "own", None) or backbone.vit
    lengths = list[int]()
    whole = model(images[:1]).shape[1] + {"tokens": 10, "deep-tokens": 10}.get(kind, 0)
    own.blocks[-1].register_forward_hook(lambda block, given, output: lengths.append(output.shape[1]))
    few = attack(method="fewer-patches", steps=5, early=2, step=EPS / 2)
    objective, context = objective_of(backbone, model, images), rtok.Context(["a", "b", "c"], std=backbone.std)
    found = craft(few, images, objective, context)
    assert lengths[-5:] == [whole, whole - 8, whole - 8, whole, whole]
    assert found.gradients.tolist() == [5, 5, 5]
    own_end = few.run(images, objective, context).images  # before `craft` brings anything back
    assert shares(own_end, images, backbone).abs().max() <= 1 + 1e-3
    assert own_end.min() >= 0 and own_end.max() <= 1


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
@pytest.mark.parametrize("kind", ["none", "tokens", "deep-tokens", "lora"])
def test_the_gradient_on_kept_patches(tiny: Callable[..., Tiny], plugin: Any, name: str, kind: str) -> None:
    backbone = tiny(name).load(image_size=56)
    images = pictures(backbone)
    model: Any = backbone if kind == "none" else defended(backbone, kind)
    objective = objective_of(backbone, model, images)
    gradient = torch.zeros_like(images)
    gradient[0, 0, 20, 20] = gradient[1, 1, 0, 0] = gradient[2, 2, 55, 55] = -1.0  # patches 5, 0 and 15
    near = images + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    # all patches, in their order, are the whole model
    same = plugin.on_fewer_patches(objective, gradient, 1.0).loss_and_gradient(near, Step(0, 0))
    torch.testing.assert_close(same, objective.loss_and_gradient(near, Step(0, 0)), rtol=1e-4, atol=1e-6)
    # one patch: only its pixels get a gradient
    few = plugin.on_fewer_patches(objective, gradient, 1 / 16)
    found = few.loss_and_gradient(near, Step(0, 0))[1]
    moved = found.abs().sum(1).unflatten(1, (4, 14)).unflatten(3, (4, 14)).sum((2, 4)).flatten(1) > 0
    assert [row.nonzero().flatten().tolist() for row in moved] == [[5], [0], [15]]
    target = objective.criterion.target
    kept = [target[b, [0, 1 + place]] for b, place in enumerate([5, 0, 15])]  # and it is compared with its own target
    assert torch.equal(few.criterion.target, torch.stack(kept))


def test_another_model_is_refused(plugin: Any) -> None:
    images = torch.rand(1, 3, 8, 8)
    target = FeatureCriterion(images.flatten(1), "channel")
    objective = Objective(FixedSurrogate(lambda given: given.flatten(1)), target)
    with pytest.raises(UserError, match="drops patches of ViTs"):
        plugin.on_fewer_patches(objective, images, 0.5)
