"""The checks of one attack on one victim: each computes something that must hold if the attack works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from rtok.attacks.ball import pixel_scale
from rtok.attacks.base import Crafted, build
from rtok.attacks.noise import generator, start_noise
from rtok.attacks.objective import FixedSurrogate, Model, Objective
from rtok.data.loader import Batch
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.sanity.gradients import ACROSS_TOLERANCE, ALONG_TOLERANCE, agreement, worst
from rtok.evaluation.sanity.reference import go_on
from rtok.evaluation.task import View
from rtok.evaluation.trial import AttackRun, Trial
from rtok.evaluation.victims import Victim
from rtok.models.half import exact_gradients

Check = dict[str, Any]
GRADIENTS = "the gradient is the deployed model's"
UNBOUNDED = "an unbounded attack beats noise"
MORE_STEPS = "four times the steps add little"
SEARCH = "random search is not stronger"
TRANSFER = "transfer is not stronger"
# A comparison may be off by this share of the loss range: from the clean images to those of an unbounded attack. (Seen
# on a DINOv2 ViT-S/14: 120 steps of PGD instead of 30 add 0.2 % at 1.8/255 and 1.8 % at 8/255; 40 instead of 10, 3 %.)
SLACK = 0.02
TIMES_STEPS = 4
LEVEL = 0.5 / 255  # noise around the attacked image: at a clean one the gradient of the cosine is zero
# Images of uniform noise that an unbounded attack has to beat; where there is a right and wrong, this accuracy or IoU
# is all it may leave.
NOISES = 4
BROKEN = 0.1
SEARCHED = 2  # images that random search is tried on: its queries are most of what the checks cost


@dataclass
class Checks:
    """The checks of one attack on the one victim of a trial, for a few images.

    Attacks are compared by what they leave of each image, (b,) (`Task.left`): the less, the stronger.

    Attributes:
        queries: those of the random search.
        public: the checks of the same attack on the plain model, whose images and outputs serve these too; None for the
            plain model itself.
    """

    evaluator: Evaluator
    trial: Trial
    batch: Batch
    queries: int
    public: Checks | None = None
    _cleans: dict[Victim, Tensor] = field(default_factory=dict)
    _made: dict[AttackRun, Crafted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.public is not None:
            self._cleans, self._made = self.public._cleans, self.public._made

    def planned(self) -> list[tuple[str, Callable[[], Check]]]:
        """Every check that applies, with its name."""
        found: list[tuple[str, Callable[[], Check]]] = [(GRADIENTS, self.gradients), (UNBOUNDED, self.unbounded)]
        if self._steps is not None:
            found.append((MORE_STEPS, self.more_steps))
        if self.public is not None:
            if self.trial.settings.norm == "linf":
                found.append((SEARCH, self.random_search))
            found.append((TRANSFER, self.transfer))
        return found

    def gradients(self) -> Check:
        """The gradient that the attack follows is the deployed model's, near the images and where the attack ends."""
        deployed = self._objective
        if not self._run.hidden:
            deployed = replace(deployed, surrogate=FixedSurrogate(self._model))
        settings, keys, seed = self.trial.settings, self.batch.keys, self.evaluator.seed
        radius = settings.eps * pixel_scale(self.images, settings.units, self.evaluator.std)
        level = torch.full_like(radius, LEVEL)
        places = (("near", self.images, settings.norm, radius), ("attacked", self._strongest, "linf", level))
        found = []
        for name, images, norm, width in places:
            noise = start_noise("uniform", norm, 1.0, images.shape, keys, seed, "sanity", name).to(images)
            points = (images + width * noise).clamp(0, 1)
            with exact_gradients():  # rounded ones are off by more than is wanted, and are no sign of a masked gradient
                found.append(agreement(self._objective, deployed, points, keys, seed, name))
        along, across, apart = worst(found)
        seen = (
            f"along it {along:.3g} of the change that it predicts (1 ± {ALONG_TOLERANCE:g} wanted), "
            f"{across:.2g} of its length wrong (at most {ACROSS_TOLERANCE:g}), losses {apart:.1g} apart"
        )
        passed = all(bool(one.passed.all()) for one in found)
        values = {"along": along, "across": across, "apart": apart}
        return self._check(GRADIENTS, passed, seen, values)

    def unbounded(self) -> Check:
        """An attack that may change the image as it likes leaves less than noise, and than another photo, would."""
        limits = [self._noise(), *self._other_images()]
        if self.evaluator.task.objective == "labels":
            limits.append(BROKEN)
        return self._compared(UNBOUNDED, float(self._unbounded.mean()), "at most", min(limits))

    def more_steps(self) -> Check:
        """Four times the steps, the further ones by a second program, add next to nothing."""
        more, settings, std = (TIMES_STEPS - 1) * (self._steps or 0), self.trial.settings, self.evaluator.std
        found = self._left(go_on(self._objective, self.images, self._strongest, settings, std, more))
        longer = float(torch.minimum(found, self._full).mean())
        return self._not_stronger(MORE_STEPS, longer, self._full)

    def random_search(self) -> Check:
        """Square attack, which needs no gradient, is not stronger."""
        batch, settings = self._first(SEARCHED), self.trial.settings.by_queries(self.queries)
        surrogate, plain = FixedSurrogate(self._model), self.evaluator.victims[0]
        run = AttackRun(settings, build(settings), surrogate, self.evaluator.models[plain])
        found = self._left(self.evaluator.craft(run, batch, self.images[: len(batch)]).images)
        return self._not_stronger(SEARCH, float(found.mean()), self._full[: len(batch)])

    def transfer(self) -> Check:
        """The images that the same attack makes on the plain model are not stronger."""
        assert self.public is not None
        found = torch.stack([self._left(images) for images in self.public.found]).amin(0)
        return self._not_stronger(TRANSFER, float(found.mean()), self._full)

    def _not_stronger(self, name: str, other: float, full: Tensor) -> Check:
        return self._compared(name, other, "at least", float(full.mean()) - SLACK * self._range)

    def _compared(self, name: str, left: float, how: Literal["at most", "at least"], limit: float) -> Check:
        passed = left <= limit if how == "at most" else left >= limit
        return self._check(name, passed, f"leaves {left:.3f}, {how} {limit:.3f} wanted", {"left": left, "limit": limit})

    def _check(self, name: str, passed: bool, seen: str, values: Mapping[str, float]) -> Check:
        victim = self._victim
        who = {key: victim.identity()[key] for key in ("victim", "defense", "kind", "head_features")}
        return {"check": name, "passed": passed, "seen": seen, "values": values, **who, "attack": self.trial.name}

    @property
    def _victim(self) -> Victim:
        return self.trial.victims[0]

    @property
    def _model(self) -> Model:
        """The victim as it is evaluated."""
        return self.evaluator.models[self._victim]

    @property
    def _run(self) -> AttackRun:
        """The first of the attack's runs, whose objective the checks share; for labels it is the cross-entropy.

        The cross-entropy is smooth, unlike the margin, so that differences tell its gradient.
        """
        run = self.trial.runs[0]
        return replace(run, settings=run.settings.model_copy(update={"loss": "cross-entropy"}))

    @property
    def _steps(self) -> int | None:
        return self._run.settings.counts["steps"]

    @cached_property
    def images(self) -> Tensor:
        """The clean images on the device."""
        return self.batch.on(self.evaluator.device)

    @cached_property
    def found(self) -> list[Tensor]:
        """What each run of the attack finds, as it is configured."""
        for run in self.trial.runs:
            self._made[run] = self.evaluator.craft(run, self.batch, self.images, self._made, self._cleans)
        return [self._made[run].images for run in self.trial.runs]

    @cached_property
    def _objective(self) -> Objective:
        return self.evaluator.objective(self._run, self.batch, self.images, self._cleans)

    @cached_property
    def _lefts(self) -> Tensor:
        return torch.stack([self._left(images) for images in self.found])

    @cached_property
    def _full(self) -> Tensor:
        """What the attack leaves: per image the least that a run of it does."""
        return self._lefts.amin(0)

    @cached_property
    def _strongest(self) -> Tensor:
        """What the strongest run made of each image."""
        return torch.stack([self.found[run][b] for b, run in enumerate(self._lefts.argmin(0).tolist())])

    @cached_property
    def _unbounded(self) -> Tensor:
        run = self.trial.runs[0]
        settings = run.settings.at_radius(1.0)
        run = replace(run, settings=settings, attack=build(settings))
        return self._left(self.evaluator.craft(run, self.batch, self.images, clean=self._cleans).images)

    @cached_property
    def _range(self) -> float:
        """How much an unbounded attack takes away, which comparisons are relative to."""
        return max(0.0, float((self._left(self.images) - self._unbounded).mean()))

    def _noise(self) -> float:
        """What uniform noise leaves in the images' place: of several draws the least."""
        generators = [generator(self.evaluator.seed, key, "sanity", "noise") for key in self.batch.keys]
        shape, left = self.images.shape[1:], []
        for _ in range(NOISES):
            noise = torch.stack([torch.rand(shape, generator=g) for g in generators])
            left.append(self._left(noise.to(self.images)))
        return float(torch.stack(left).amin(0).mean())

    def _other_images(self) -> list[float]:
        """What images of other groups leave in an image's place, on average; nothing where there is one group."""
        groups, left = self.batch.groups, list[float]()
        for shift in range(1, len(groups)):
            moved = zip(
                self._left(self.images.roll(shift, 0)).tolist(), groups, groups[-shift:] + groups[:-shift], strict=True
            )
            left += [value for value, own, other in moved if own != other]
        return [fmean(left)] if left else []

    def _left(self, images: Tensor) -> Tensor:
        """What is left where these images (b, 3, H, W) take the place of the batch's first."""
        b, task, victim = len(images), self.evaluator.task, self._victim
        batch, output = self._first(b), self._output(victim, images)
        clean, plain = self._clean(victim)[:b], self._clean(self.evaluator.victims[0])[:b]
        view = View(batch, self.images[:b], images, clean, plain, output, None, None)
        # An attack without steps may stop at the first image that is wrong, and only that counts.
        left = task.measure(view)[task.worst_by] if self._steps is None else task.left(view)
        return torch.as_tensor(left).nan_to_num().float().cpu()

    def _clean(self, victim: Victim) -> Tensor:
        if victim not in self._cleans:
            self._cleans[victim] = self._output(victim, self.images)
        return self._cleans[victim]

    def _output(self, victim: Victim, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.evaluator.task.reduce(self.evaluator.models[victim](images), self._first(len(images)))

    def _first(self, count: int) -> Batch:
        """The batch's first images."""
        batch = self.batch
        labels = None if batch.labels is None else batch.labels[:count]
        return Batch(batch.pixels[:count], batch.keys[:count], labels, batch.groups[:count], batch.visits[:count])
