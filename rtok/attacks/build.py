"""From an attack's settings to the algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

from rtok.attacks.autoattack import AutoAttack
from rtok.attacks.objective import Objective
from rtok.attacks.pgd import PGD, Perturbed
from rtok.attacks.square import Square
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig


class Attack(Protocol):
    """Turns clean images into adversarial ones by maximising an objective."""

    def run(
        self,
        images: Tensor,
        objective: Objective,
        *,
        keys: Sequence[str],
        std: Tensor | None = None,
        seed: int = 0,
        visits: Sequence[int] | None = None,
        start: Tensor | None = None,
    ) -> Perturbed:
        """Craft one adversarial image per clean image (B, 3, H, W) in [0, 1]; `start`: another attack's."""
        ...


def build_attack(settings: AttackConfig, objective: Literal["features", "labels"]) -> Attack:
    """Build the algorithm that `attack.method` names, to pull away from features or labels.

    Raises:
        UserError: AutoAttack on features.
    """
    if settings.method == "pgd":
        return build_pgd(settings)
    if settings.method == "square":
        return Square(settings.eps, settings.units, settings.queries, settings.quantize)
    if objective == "features":
        raise UserError("attack.method: autoattack attacks labels, and features have none: use pgd.")
    return AutoAttack(
        norm=settings.norm,
        eps=settings.eps,
        version=settings.version,
        attacks=tuple(settings.attacks or ()),
        quantize=settings.quantize,
    )


def build_pgd(settings: AttackConfig) -> PGD:
    """Build PGD with every option of the settings."""
    return PGD(
        norm=settings.norm,
        eps=settings.eps,
        step=settings.step,
        steps=settings.steps,
        units=settings.units,
        restarts=settings.restarts,
        init="uniform" if settings.init == "transfer" else settings.init,  # `run` gets the start
        momentum=settings.momentum,
        mse_weight=settings.mse_weight,
        max_mse=settings.max_mse,
        quantize=settings.quantize,
        diversity=settings.diversity,
    )
