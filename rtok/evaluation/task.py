"""What a measurement plugs into the evaluation loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from rtok.attacks.objective import Criterion, Model
from rtok.evaluation.victims import Victim
from rtok.results.images import Images
from rtok.results.summary import numbers

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.data.loader import Batch
    from rtok.data.source import ImageSource
    from rtok.evaluation.loop import Evaluator
    from rtok.runs.run import Run
    from rtok.setup import Setup

# Per-image values by name: a tensor (b,) of numbers, a list of b words, or a list of b lists for what is added up over
# the data set and shown in no table.
Columns = dict[str, "Tensor | list[Any]"]


@dataclass(frozen=True)
class View:
    """What a victim made of one batch, clean and attacked.

    Attributes:
        clean, adversarial: the victim's output on the clean and the adversarial images, as `Task.reduce` left it.
        plain_clean: the plain victim's output on the clean images.
        surrogate_clean, surrogate_adversarial: the surrogate's output on both, where the task asks for it and the
            surrogate is one fixed model.
        images, adversarial_images: (b, 3, H, W) in [0, 1].
    """

    batch: Batch
    images: Tensor
    adversarial_images: Tensor
    clean: Tensor
    plain_clean: Tensor
    adversarial: Tensor
    surrogate_clean: Tensor | None
    surrogate_adversarial: Tensor | None

    @property
    def image_linf_255(self) -> Tensor:
        """The largest change of a pixel, (b,), in levels of 255."""
        return (self.adversarial_images - self.images).abs().flatten(1).amax(1) * 255


class Task(ABC):
    """One kind of measurement: features, classification or segmentation.

    Attributes:
        command: the command's name.
        objective: what attacks pull away from.
        worst_by: the per-image column by which the worst of several attacks is chosen: smaller is worse.
        several_targets: whether `adaptive` has several clean outputs to pull away from.
        wants_surrogate: whether `measure` needs the surrogate's own output on the clean and adversarial images.
        plain_head: the head of the plain victim and of every attacker without a defense; None without heads.
        robust_heads, control_heads: the heads that each robust victim, and each draw of the control, is tried with.
        split: the images that heads are fitted or chosen on; None where none are needed.
    """

    command: ClassVar[str]
    objective: ClassVar[Literal["features", "labels"]] = "labels"
    worst_by: ClassVar[str]
    several_targets: ClassVar[bool] = False
    wants_surrogate: ClassVar[bool] = False
    plain_head: str | None = None
    robust_heads: Sequence[str | None] = (None,)
    control_heads: Sequence[str | None] = (None,)
    split: ImageSource | None = None

    @abstractmethod
    def model(self, victim: Victim) -> Model:
        """The victim as a function from images (b, 3, H, W) to this task's output; `prepare` comes first."""

    def hidden(self, victim: Victim, depth: float) -> Model:
        """Images to the features (b, N, D) inside a victim's backbone, at this share of its depth."""
        features = victim.features
        block = features.backbone.block_at(depth)
        return lambda images: features.intermediate(images, [block])[0]

    def prepare(self, run: Run) -> None:  # noqa: B027 (most tasks need nothing)
        """Make what the models still lack, such as fitted heads, now that the run's folder is there."""

    @abstractmethod
    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """What an attack maximizes, given the target model's output on the clean images."""

    def reduce(self, output: Tensor, batch: Batch) -> Tensor:
        """What the loop keeps of a model's output: all of it, or the little that `measure` needs."""
        return output

    @abstractmethod
    def measure(self, view: View) -> Columns:
        """Per-image values: column name to a tensor (b,), or to a list."""

    def left(self, view: View) -> Tensor:
        """What an attack left of each image, (b,), by degrees: the less, the stronger. For the checks of attacks."""
        return torch.as_tensor(self.measure(view)[self.worst_by])

    def summarize(self, images: Images) -> dict[str, Any]:
        """The columns of `results.json` for one victim under one attack, with `ci95`."""
        return numbers(self.command, images)

    def draw(  # noqa: B027 (figures are optional)
        self, setup: Setup, evaluator: Evaluator, rows: Sequence[dict[str, Any]], out: Path
    ) -> None:
        """Draw the figures of the finished evaluation into its folder."""
