"""What a measurement plugs into the evaluation loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor

from rtok.attacks.objective import Criterion, Model
from rtok.evaluation.victims import Victim

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.data.loader import Batch
    from rtok.models.backbone import Backbone
    from rtok.runs.folder import RunFolder


# Per-image values by name: a tensor (b,) of numbers, or a list of b lists for what is added up over the data
# set and shown in no table. Over the control's draws numbers are averaged and lists joined.
Columns = dict[str, "Tensor | list[list[Any]]"]


@dataclass(frozen=True)
class View:
    """What a victim made of one batch, clean and attacked.

    Attributes:
        clean, adversarial: the victim's output on the clean and the adversarial images, as `Task.digest`
            left it.
        plain_clean: the plain victim's output on the clean images.
        probe_clean, probe_adversarial: the surrogate's output on both, where the task asks for it and the
            surrogate is one fixed model.
        images, adversarial_images: (b, 3, H, W) in [0, 1].
    """

    batch: Batch
    images: Tensor
    adversarial_images: Tensor
    clean: Tensor
    plain_clean: Tensor
    adversarial: Tensor
    probe_clean: Tensor | None
    probe_adversarial: Tensor | None


def hidden_features(backbone: Backbone, tokens: Tensor | None, depth: float) -> Model:
    """`Task.hidden` where images are as large as the backbone's."""
    return lambda images: backbone.intermediate(images, tokens, [backbone.block_at(depth)])[0]


class Task(Protocol):
    """One kind of measurement: features, classification or segmentation."""

    @property
    def command(self) -> str:
        """The command's name."""

    @property
    def objective(self) -> Literal["features", "labels"]:
        """What attacks pull away from."""

    @property
    def plain_head(self) -> str | None:
        """The head of the plain victim, the control and every attacker without tokens; None without heads."""

    @property
    def robust_heads(self) -> tuple[str | None, ...]:
        """The heads that each robust victim is tried with."""

    @property
    def severity(self) -> str:
        """The per-image column by which the worst of several attacks is chosen: smaller is worse."""

    @property
    def several_targets(self) -> bool:
        """Whether `adaptive` has several targets to pull away from."""

    @property
    def wants_probe(self) -> bool:
        """Whether `measure` needs the surrogate's own output on the clean and adversarial images."""

    def model(self, victim: Victim) -> Model:
        """The victim as a function from images (b, 3, H, W) to this task's output; `prepare` comes first."""
        ...

    def surrogate(self, backbone: Backbone, tokens: Tensor | None) -> Model:
        """A surrogate of the user's choice, as a function like that of a victim."""
        ...

    def hidden(self, backbone: Backbone, tokens: Tensor | None, depth: float) -> Model:
        """Images to the features (b, N, D) inside a backbone, at this share of its depth."""
        ...

    def prepare(self, folder: RunFolder) -> None:
        """Make what the models still lack, such as fitted heads, now that the run's folder is there."""
        ...

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """What an attack maximises, given the target model's output on the clean images."""
        ...

    def digest(self, output: Tensor, batch: Batch) -> Tensor:
        """What the loop keeps of a model's output: all of it, or the little that `measure` needs."""
        ...

    def measure(self, view: View) -> Columns:
        """Per-image values: column name to a tensor (b,), or to a list."""
        ...

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The columns of `results.json` for the per-image rows of one victim under one attack."""
        ...
