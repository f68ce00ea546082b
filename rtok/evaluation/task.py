"""What a measurement plugs into the evaluation loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from rtok.attacks.objective import Criterion, Model
from rtok.evaluation.victims import Victim

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.data.loader import Batch


@dataclass(frozen=True)
class View:
    """What a victim made of one batch, clean and attacked.

    Attributes:
        clean, adversarial: the victim's output on the clean and the adversarial images.
        plain_clean: the plain victim's output on the clean images.
        probe_adversarial: the surrogate's output on the adversarial images, where the task asks for it.
        images, adversarial_images: (b, 3, H, W) in [0, 1].
    """

    batch: Batch
    images: Tensor
    adversarial_images: Tensor
    clean: Tensor
    plain_clean: Tensor
    adversarial: Tensor
    probe_adversarial: Tensor | None


class Task(Protocol):
    """One kind of measurement: features, classification or segmentation.

    Attributes:
        command: the command's name.
        severity: the per-image column by which the worse of several attacks on a victim is chosen; smaller is worse.
        several_targets: whether `adaptive` has several targets to pull away from.
        wants_probe: whether `measure` needs the surrogate's own output on the adversarial images.
    """

    command: str
    severity: str
    several_targets: bool
    wants_probe: bool

    def model(self, victim: Victim) -> Model:
        """The victim as a function from images (b, 3, H, W) to this task's output."""
        ...

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """What an attack maximises, given the target model's output on the clean images."""
        ...

    def measure(self, view: View) -> dict[str, Tensor]:
        """Per-image numbers: column name to a tensor (b,)."""
        ...

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The columns of `results.json` for the per-image rows of one victim under one attack."""
        ...
