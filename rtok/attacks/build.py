"""From an attack's settings to the algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from rtok.attacks.objective import Objective
from rtok.attacks.pgd import PGD, Perturbed
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
    ) -> Perturbed:
        """Craft one adversarial image per clean image (B, 3, H, W) in [0, 1]."""
        ...


def build_attack(settings: AttackConfig) -> Attack:
    """Build the algorithm that `attack.method` names."""
    if settings.method != "pgd":
        raise UserError(f"attack.method: {settings.method} attacks labels, and features have none: use pgd.")
    return build_pgd(settings)


def build_pgd(settings: AttackConfig) -> PGD:
    """Build PGD with every option of the settings."""
    return PGD(
        norm=settings.norm,
        eps=settings.eps,
        step=settings.step,
        steps=settings.steps,
        units=settings.units,
        restarts=settings.restarts,
        init=settings.init,
        momentum=settings.momentum,
        mse_weight=settings.mse_weight,
        max_mse=settings.max_mse,
        quantize=settings.quantize,
    )
