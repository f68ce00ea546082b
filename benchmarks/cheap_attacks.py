"""Attacks that need fewer gradients, or smaller ones, than PGD: a plugin for `scripts/fewer_steps.sh`.

They are compared with PGD of few steps in trainings, and are too weak to measure a defense with:

    rtok train --config my.yaml --plugin benchmarks/cheap_attacks.py --set 'attack={method: n-fgsm, quantize: none}'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

import rtok
from rtok.activity import rounds
from rtok.attacks.ball import pixel_scale, project
from rtok.attacks.noise import start_noise
from rtok.attacks.objective import Model, Objective, Step, Surrogate
from rtok.attacks.pgd import PGD
from rtok.config.attack_methods import PGDConfig
from rtok.config.types import Count, Positive, Share
from rtok.errors import UserError
from rtok.models.defended import Defended
from rtok.models.entry import NOTHING, Entry


class _OwnStepConfig(rtok.AttackConfig):
    """A box around each image, and a step that shrinks with it."""

    unused: ClassVar[frozenset[str]] = frozenset({"norm"})

    step: Positive = Field(8 / 255, description="The step size, in `units`.")

    def scaled(self, share: float) -> Self:
        """The same attack with this share of its radius and of its step size."""
        return super().scaled(share).model_copy(update={"step": share * self.step})


class NFGSMConfig(_OwnStepConfig):
    """N-FGSM: one step from strong noise.

    The noise is uniform in twice the step, and the published method clips neither it nor what is found: the images
    lie within three steps. rtok brings them back into `eps`, so three steps is the radius that clips nothing.
    """

    method: str = "n-fgsm"
    eps: Positive = Field(24 / 255, description="The radius, in `units`; with three steps nothing is clipped.")


class NFGSM:
    """N-FGSM (de Jorge et al., 2022, algorithm 1, with k = 2 and a step of the radius that is defended)."""

    def __init__(self, settings: NFGSMConfig) -> None:
        self.settings = settings

    def run(self, images: Tensor, objective: Objective, context: rtok.Context) -> rtok.Perturbed:
        """Take one gradient at the noisy images, and one step from there."""
        settings, scale = self.settings, pixel_scale(images, self.settings.units, context.std)
        noisy = (images + scale * _noise("uniform", 2 * settings.step, images, context)).clamp(0, 1)
        loss, gradient = objective.loss_and_gradient(noisy, Step(0, 0))
        return rtok.Perturbed((noisy + settings.step * scale * gradient.sign()).clamp(0, 1), loss)


class WarmPGDConfig(PGDConfig):
    """PGD that goes on, in a training, from what it found for the image on its last visit."""

    method: str = "warm-pgd"


# What was found last, as a share of the radius, by the run's seed and the image. It is of one process and gone when
# that ends: a training that is resumed, or shared by several processes, starts some visits from noise.
_found: dict[tuple[int, str], Tensor] = {}


class WarmPGD:
    """PGD from the perturbation of the image's last visit (Zheng et al., 2020), and from noise at its first.

    They map a perturbation back through the augmentation. An attack sees only the crop, so here it keeps its place in
    the crop, whatever part of the picture that shows. It grows with the radius.
    """

    def __init__(self, settings: WarmPGDConfig) -> None:
        self.settings = settings

    def run(self, images: Tensor, objective: Objective, context: rtok.Context) -> rtok.Perturbed:
        """Run PGD, and remember where it ended."""
        settings = self.settings
        radius = settings.eps * pixel_scale(images, settings.units, context.std)
        noise = _noise(settings.init, settings.eps, images, context) / settings.eps
        names = [(context.seed, key) for key in context.keys]
        start = torch.stack(
            [
                _found.get(name, fresh) if visit else fresh
                for name, visit, fresh in zip(names, _visits(context), noise, strict=True)
            ]
        )
        found = PGD(settings).run(images, objective, replace(context, start=images + radius * start))
        _found.update(zip(names, (found.images - images) / radius, strict=True))
        return found


class FewerPatchesConfig(_OwnStepConfig):
    """PGD whose first steps, but for the very first, run on some of the patches alone."""

    method: str = "fewer-patches"
    steps: Count = Field(10, description="Gradient steps.")
    early: int = Field(4, ge=0, description="How many steps, from the second on, run on the kept patches.")
    kept: Share = Field(0.5, description="The share of the patches that is kept: those with the largest gradients.")


class FewerPatches:
    """PGD from the `paper` preset's start, with most of its early steps on fewer tokens.

    Which patches are kept is read off the first step's gradient, which costs nothing; the class token's attention would
    cost a pass. What is dropped is not computed, its features are not compared, and its pixels wait for the late steps.
    """

    def __init__(self, settings: FewerPatchesConfig) -> None:
        self.settings = settings

    def run(self, images: Tensor, objective: Objective, context: rtok.Context) -> rtok.Perturbed:
        """Take one whole step, some on few patches, and the others whole again."""
        settings, scale = self.settings, pixel_scale(images, self.settings.units, context.std)
        start = images + scale * _noise("gaussian", settings.eps, images, context)
        adversarial, loss = project(start, images, "linf", settings.eps, scale), images.new_zeros(len(images))
        few: Objective | None = None
        for k in rounds(range(settings.steps), "step"):
            asked = few if few and k <= settings.early else objective
            loss, gradient = asked.loss_and_gradient(adversarial, Step(0, k))
            if k == 0 and settings.early:
                few = on_fewer_patches(objective, gradient, settings.kept)
            moved = adversarial + settings.step * scale * gradient.sign()
            adversarial = project(moved, images, "linf", settings.eps, scale)
        return rtok.Perturbed(adversarial, loss)


def on_fewer_patches(objective: Objective, gradient: Tensor, share: float) -> Objective:
    """Return the objective on the share of each image's patches with the largest gradients (B, 3, H, W).

    Raises:
        UserError: the model is not a backbone, or one with a defense inside, without rotary positions.
    """
    (_, model), *_ = objective.surrogate.members(Step(0, 0))
    backbone = getattr(model, "backbone", None)
    if backbone is None or not backbone.takes_entries or backbone.rope is not None:
        raise UserError("method fewer-patches drops patches of ViTs with position embeddings; this model is another.")
    size = F.avg_pool2d(gradient.abs().mean(1, keepdim=True), backbone.patch_size).flatten(1)
    places = size.topk(max(1, round(share * size.shape[1])), dim=1).indices.sort(dim=1).values
    prefix = backbone.has_class_token + backbone.num_registers
    criterion: Any = objective.criterion
    if criterion.target.ndim == 3:
        criterion = replace(criterion, target=_rows(criterion.target, places, 1))
    # a part of the batch would have to know its places, and so would a captured graph
    return replace(
        objective,
        surrogate=_OnPatches(objective.surrogate, places, prefix),
        criterion=criterion,
        micro_batch=None,
        graphs=None,
    )


@dataclass(frozen=True)
class _OnPatches:
    inner: Surrogate
    places: Tensor
    prefix: int

    def members(self, step: Step) -> Sequence[tuple[float, Model]]:
        found: list[tuple[float, Model]] = []
        for weight, model in self.inner.members(step):
            whole: Any = model
            entry = KeptPatches(getattr(whole, "entry", NOTHING), self.places, self.prefix)
            found.append((weight, Defended(whole.backbone, entry)))
        return found


@dataclass(frozen=True, eq=False)
class KeptPatches(Entry):
    """Only the patches at `places` (B, k) go through the blocks, with what stands before and what `inner` adds."""

    inner: Entry
    places: Tensor
    prefix: int
    last: int = -1

    def bind(self, vit: Any) -> Entry:
        """Bind what is inside, and count the blocks."""
        return replace(self, inner=self.inner.bind(vit), last=len(vit.blocks) - 1)

    @property
    def own(self) -> Any | None:  # type: ignore[override]
        """The model that runs for what is inside."""
        return self.inner.own

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Drop the others."""
        return self.inner.begin(_rows(sequence, self.places, self.prefix), rope)

    def run_block(self, index: int, block: Any, sequence: Tensor, rope: Tensor | None) -> Tensor:
        """Run a block; after the last, take off what was added, which the backbone expects behind all patches."""
        sequence = self.inner.run_block(index, block, sequence, rope)
        return sequence[:, : self.prefix + self.places.shape[1]] if index == self.last else sequence


def _rows(sequence: Tensor, places: Tensor, prefix: int) -> Tensor:
    """Return the first `prefix` rows of (B, N, D), and those at `places` (B, k) after them."""
    chosen = (prefix + places)[:, :, None].expand(-1, -1, sequence.shape[2])
    return torch.cat([sequence[:, :prefix], sequence.gather(1, chosen)], dim=1)


def _visits(context: rtok.Context) -> Sequence[int]:
    return context.visits or [0] * len(context.keys)


def _noise(init: str, eps: float, images: Tensor, context: rtok.Context) -> Tensor:
    """Each image's noise, as PGD draws it, in units of the radius `eps`."""
    shape = images[:1].shape
    noise = [
        start_noise(init, "linf", eps, shape, [key], context.seed, 0, visit)
        for key, visit in zip(context.keys, _visits(context), strict=True)
    ]
    return torch.cat(noise).to(images)


rtok.register_attack("n-fgsm", NFGSM, NFGSMConfig)
rtok.register_attack("warm-pgd", WarmPGD, WarmPGDConfig)
rtok.register_attack("fewer-patches", FewerPatches, FewerPatchesConfig)
