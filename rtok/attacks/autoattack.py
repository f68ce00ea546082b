"""AutoAttack (Croce & Hein, 2020) on labels: its members, run one after the other on what still resists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rtok.activity import doing
from rtok.attacks.apgd import APGD
from rtok.attacks.ball import per_image, project
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.criteria import LabelCriterion, single
from rtok.attacks.objective import Chosen, FixedSurrogate, Model, Objective, Passes, Step
from rtok.attacks.square import FIRST_SHARE, HALVINGS, Square
from rtok.config.attack_methods import AutoAttackConfig
from rtok.errors import UserError
from rtok.seeding import image_seed

# The members of each version, in their order.
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
}
# The loss of these is the difference of logits ratio, which compares the third (dlr) or fourth largest logit.
FEWEST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
# AutoAttack's numbers: steps of APGD and FAB, queries of Square attack, classes that targeted attacks try (fewer where
# there are fewer), and the restarts of `plus` for attacks without a target.
STEPS, QUERIES, TARGETS, RESTARTS = 100, 5000, 9, 5
_NORMS = {"linf": "Linf", "l2": "L2"}
_FIRST = Step(0, 0)

# From clean images that still resist, with their objective and context, to adversarial ones.
Attempt = Callable[[Tensor, Objective, Context], Tensor]


@dataclass(frozen=True)
class TargetedDLR(LabelCriterion):
    """Towards a wrong class: the targeted difference of logits ratio (Croce & Hein, 2020, section 4).

    Args:
        targets: (B,) the wrong classes; there are at least four classes.
    """

    targets: Tensor | None = None

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """(z_t - z_y) / (z_1 - (z_3 + z_4) / 2), (b,), with the logits z_1 >= z_2 >= ... in order."""
        assert self.targets is not None
        logits = single(output)
        right, wrong = (logits.gather(1, classes[images, None])[:, 0] for classes in (self.labels, self.targets))
        largest = logits.topk(4, dim=1).values
        return (wrong - right) / (largest[:, 0] - largest[:, 2:].mean(1)).clamp(min=1e-12)


class AutoAttack:
    """AutoAttack's ensemble against the labels of a `LabelCriterion`.

    Every member tries all images that have withstood those before it. APGD and Square attack are rtok's, FAB is
    pyautoattack's, and so is Square attack for L2. All randomness is an image's own, so a result does not depend on the
    batch: what draws its noise for a batch at once (FAB's restarts, Square attack for L2) runs image by image.

    An image that resists, or that the surrogate misclassifies anyway, comes back unchanged: that a victim
    withstands it says nothing. A surrogate that changes at every step (`informed`) stays at its first step,
    its members' logits averaged, since AutoAttack wants one deterministic model.

    Args:
        settings, options: the keys of `AutoAttackConfig`, whole or as keywords. The radius is in pixel values of
            [0, 1]. Attacks that need more classes than there are (`FEWEST_CLASSES`) are left out of `version: standard`
            and `plus`. 8 bits (`quantize: round` or `floor`) often undo a minimal perturbation.

    Raises:
        UserError: a keyword is unknown or has a wrong value.
    """

    def __init__(self, settings: AutoAttackConfig | None = None, **options: Any) -> None:
        self.settings = read_settings(AutoAttackConfig, settings, options)

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        """Craft one adversarial image per image (B, 3, H, W) in [0, 1].

        Raises:
            UserError: the objective is not one of labels.
        """
        if not isinstance(objective.criterion, LabelCriterion):
            raise UserError("attack.method: autoattack attacks labels, and features have none: use pgd.")
        members = [*objective.surrogate.members(_FIRST)]
        passes = Passes.none(images)
        criterion = LabelCriterion(objective.criterion.labels, objective.criterion.ignore_index)
        surrogate, graphs = FixedSurrogate(_mean(members)), objective.graphs
        frozen = Objective(surrogate, criterion, objective.micro_batch, passes=passes, graphs=graphs)
        adversarial, devices = images.clone(), [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):  # pyautoattack seeds the global generators
            with torch.no_grad():
                logits = frozen.output(images, _FIRST)
            resists = logits.argmax(1) == criterion.labels
            attempts = list(self._attempts(logits, criterion))
            for number, (name, attempt) in enumerate(attempts):
                places = resists.nonzero().squeeze(1)
                if not len(places):
                    break
                there = frozen.at(places)
                with doing(name, number / len(attempts), (number + 1) / len(attempts)):
                    found = attempt(images[places], there, _some(context, places))
                # FAB goes on beyond the radius, and by rounding errors others do.
                found = project(found, images[places], self.settings.norm, self.settings.eps)
                fooled = there.score(found, _FIRST)[1] > 0
                adversarial[places] = torch.where(per_image(fooled), found, adversarial[places])
                resists[places] = ~fooled
        if objective.passes is not None:
            objective.passes.forwards.add_(passes.forwards, alpha=len(members))
            objective.passes.gradients.add_(passes.gradients, alpha=len(members))
        return Perturbed(adversarial, objective.loss(adversarial, _FIRST))

    def chosen(self, classes: int) -> list[str]:
        """The attacks that run on a model of this many classes."""
        version = self.settings.version
        wanted = VERSIONS.get(version, self.settings.attacks or ())
        return [name for name in wanted if version == "custom" or classes >= FEWEST_CLASSES.get(name, 2)]

    def check(self, classes: int) -> None:
        """Refuse what cannot run on a model of this many classes.

        Raises:
            UserError: a custom list holds an attack that needs more classes.
        """
        for name in self.chosen(classes):
            if classes < FEWEST_CLASSES.get(name, 2):
                raise UserError(
                    f"attack.attacks: {name} needs at least {FEWEST_CLASSES[name]} classes, and the head has "
                    f"{classes}: leave it out."
                )

    def _attempts(self, logits: Tensor, criterion: LabelCriterion) -> Iterator[tuple[str, Attempt]]:
        """What is tried in turn, with the name of its member, given the logits (B, K) of the clean images."""
        classes = logits.shape[1]
        restarts = RESTARTS if self.settings.version == "plus" else 1
        # From the second most likely class on; the most likely one of an image that is attacked is its label.
        ranked = logits.argsort(1, descending=True)[:, 1 : TARGETS + 1].T
        for name in self.chosen(classes):
            attempts: list[Attempt]
            if name in ("apgd-ce", "apgd-dlr"):
                loss = replace(criterion, loss="cross-entropy" if name == "apgd-ce" else "dlr")
                attempts = [partial(self._apgd, loss, restart) for restart in range(restarts)]
            elif name == "apgd-t":
                losses = [TargetedDLR(criterion.labels, criterion.ignore_index, targets=t) for t in ranked]
                attempts = [partial(self._apgd, loss, 0) for loss in losses]
            elif name == "fab":
                attempts = [partial(self._fab, None, restart) for restart in range(restarts)]
            elif name == "fab-t":
                attempts = [partial(self._fab, rank, 0) for rank in range(2, len(ranked) + 2)]
            else:
                attempts = [self._square]
            yield from ((name, attempt) for attempt in attempts)

    def _apgd(
        self, criterion: LabelCriterion, restart: int, images: Tensor, objective: Objective, context: Context
    ) -> Tensor:
        settings = self.settings
        apgd = APGD(norm=settings.norm, eps=settings.eps, steps=STEPS)
        context = replace(context, visits=[restart] * len(images))  # a start of its own
        return apgd.run(images, replace(objective, criterion=criterion), context).images

    def _fab(self, rank: int | None, restart: int, images: Tensor, objective: Objective, context: Context) -> Tensor:
        """FAB, towards the class at this rank (1 is the most likely) or any class; only restarts draw noise."""
        from pyautoattack.fab_pt import FABAttack_PT

        if restart and len(images) > 1:
            return _one_by_one(partial(self._fab, rank, restart), images, objective, context)
        norm, device = _NORMS[self.settings.norm], images.device
        predict = partial(objective.output, step=_FIRST)
        fab = FABAttack_PT(predict, norm=norm, n_iter=STEPS, eps=self.settings.eps, device=device)
        fab.target_class = rank
        if restart:
            torch.manual_seed(image_seed(context.seed, context.keys[0], "fab", restart))
        found: Tensor = fab.attack_single_run(
            images, _labels(objective), use_rand_start=restart > 0, is_targeted=rank is not None
        )
        return found

    def _square(self, images: Tensor, objective: Objective, context: Context) -> Tensor:
        if self.settings.norm == "linf":
            margin = replace(_labeled(objective), loss="margin")
            square = _Square(eps=self.settings.eps, queries=QUERIES + 2, quantize="none")
            return square.run(images, replace(objective, criterion=margin), context).images
        from pyautoattack.square import SquareAttack

        if len(images) > 1:
            return _one_by_one(self._square, images, objective, context)
        with torch.no_grad():
            found: Tensor = SquareAttack(
                partial(objective.output, step=_FIRST),
                norm="L2",
                eps=self.settings.eps,
                n_queries=QUERIES,
                seed=image_seed(context.seed, context.keys[0], "autoattack"),
                device=images.device,
                resc_schedule=False,
            ).perturb(images, _labels(objective))
        return found


class _Square(Square):
    """Square attack as AutoAttack runs it: half of the schedule, not the whole one in half of the time."""

    def share(self, query: int) -> float:
        """The share of the image; the first two queries are the image and the stripes."""
        return FIRST_SHARE / 2 ** sum(query - 2 > halving for halving in HALVINGS)


def _one_by_one(attempt: Attempt, images: Tensor, objective: Objective, context: Context) -> Tensor:
    places = torch.arange(len(images), device=images.device).split(1)
    return torch.cat([attempt(images[b], objective.at(b), _some(context, b)) for b in places])


def _some(context: Context, places: Tensor) -> Context:
    """The context of some images of a batch; AutoAttack starts from nothing that others found."""
    return Context([context.keys[b] for b in places.tolist()], context.seed)


def _labeled(objective: Objective) -> LabelCriterion:
    assert isinstance(objective.criterion, LabelCriterion)
    return objective.criterion


def _labels(objective: Objective) -> Tensor:
    labels = _labeled(objective).labels
    return labels if objective.places is None else labels[objective.places]


def _mean(members: list[tuple[float, Model]]) -> Model:
    """One model: the members' weighted mean."""
    return lambda images: torch.stack([weight * model(images) for weight, model in members]).sum(0)
