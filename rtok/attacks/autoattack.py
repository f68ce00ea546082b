"""AutoAttack (Croce & Hein, 2020) on labels, through pyautoattack."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rtok.attacks.ball import project
from rtok.attacks.base import Context, Perturbed, read_settings
from rtok.attacks.objective import LabelCriterion, Objective, Step, Surrogate
from rtok.config.attack_methods import AutoAttackConfig
from rtok.errors import UserError
from rtok.seeding import image_seed

# What pyautoattack runs, in its order.
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
}
# The loss of these is the difference of logits ratio, which compares the third (dlr) or fourth largest logit.
FEWEST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
_NORMS = {"linf": "Linf", "l2": "L2"}
_TARGETS = 9  # classes that the targeted attacks try, in every version; fewer where there are fewer


class AutoAttack:
    """AutoAttack's ensemble against the labels of a `LabelCriterion`, one image after the other.

    pyautoattack draws its noise for a whole batch at once, so that 10 to 15 % of the images change with the
    batch. Here every image runs alone, with a seed of its own: its result depends on no other image, batch
    size or process.

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
        labels, model = objective.criterion.labels, _Frozen(objective.surrogate)
        with torch.no_grad(), _contained(images.device):
            found = [
                self._attack(model, images[b : b + 1], labels[b : b + 1], image_seed(context.seed, key, "autoattack"))
                for b, key in enumerate(context.keys)
            ]
        adversarial = torch.cat(found) if found else images
        # It goes beyond the radius by rounding errors (7e-6 of 255 were seen).
        adversarial = project(adversarial, images, self.settings.norm, self.settings.eps)
        return Perturbed(adversarial, objective.loss(adversarial, Step(0, 0)))

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

    def _attack(self, model: nn.Module, image: Tensor, label: Tensor, seed: int) -> Tensor:
        """Run the ensemble on one image (1, 3, H, W)."""
        import pyautoattack

        classes = model(image).shape[1]
        ensemble: Any = pyautoattack.AutoAttack(
            model,
            norm=_NORMS[self.settings.norm],
            eps=self.settings.eps,
            seed=seed,
            device=image.device,
            version="custom",
            attacks=self.chosen(classes),
        )
        ensemble.apgd.n_restarts = ensemble.fab.n_restarts = 5 if self.settings.version == "plus" else 1
        targets = min(_TARGETS, classes - 1)
        ensemble.apgd_targeted.n_target_classes = ensemble.fab.n_target_classes = targets
        adversarial, _ = ensemble.run_standard_evaluation(image, label, batch_size=1)
        return adversarial


class _Frozen(nn.Module):
    """A surrogate at its first step, as one deterministic model."""

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.members: list[tuple[float, Callable[[Tensor], Tensor]]] = [*surrogate.members(Step(0, 0))]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K): the members' weighted mean."""
        return torch.stack([weight * model(images) for weight, model in self.members]).sum(0)


@contextmanager
def _contained(device: torch.device) -> Iterator[None]:
    """Undo what pyautoattack does to the process.

    It seeds the global generators, ends tracing, and warns about "the data", which here is a single image.
    """
    logger, trace = logging.getLogger("auto-attack"), sys.gettrace()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        logger.setLevel(level)
        sys.settrace(trace)
