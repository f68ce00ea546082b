"""Weights: a whole set of the backbone's weights, fine-tuned by `rtok train` or by somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from rtok.checkpoints import Checkpoint, beside_model, is_vision_model, state_dict
from rtok.defenses.base import Defense, new_for
from rtok.models.identify import only_match
from rtok.models.loading import translate_weights
from rtok.models.own_weights import OwnWeights
from rtok.models.registry import find
from rtok.models.spec import ModelSpec, Resampling
from rtok.release import DEFENSE_FORMAT, check_format, made_with, parse_made_for

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone


@dataclass(frozen=True, eq=False, repr=False)
class FullWeights(Defense):
    """All weights of the model. Training starts as the backbone: full adversarial fine-tuning.

    Attributes:
        values: by timm's names, positions at their trained size, float32. A file of ours is a state dict of timm.
        resampling: how the family resizes positions.
    """

    values: Mapping[str, Tensor]
    resampling: Resampling = field(default_factory=Resampling)

    kind: ClassVar[str] = "weights"
    stem: ClassVar[str] = "weights"
    noun: ClassVar[str] = "weights"
    has_control: ClassVar[bool] = False
    private: ClassVar[bool] = False
    replaces_backbone: ClassVar[bool] = True
    fit_lr: ClassVar[float] = 1e-4  # a step of Adam moves every weight by as much

    def __repr__(self) -> str:
        """Say what it is without its values."""
        return f"FullWeights(backbone={self.backbone!r})"

    @property
    def dim(self) -> int:
        """The width D."""
        return len(self.values["norm.weight"])

    @classmethod
    def create(cls, settings: Any, backbone: Backbone, seed: int) -> FullWeights:
        """Copy the backbone's weights."""
        return cls(_copied(backbone), backbone.spec.resampling, **new_for(backbone))

    @classmethod
    def parse(cls, content: Checkpoint, path: Path) -> FullWeights:
        """Take the weights out of a checkpoint that was read; `path` is for the message of the UserError."""
        about = made_with(content.metadata)
        check_format(about, path, DEFENSE_FORMAT)
        made_for = parse_made_for(about, path)
        state = {name.replace("/", "."): tensor for name, tensor in beside_model(content).items()}  # of `robustify`
        spec, values = _translated(state, path, made_for["backbone"])
        return cls(values, spec.resampling, **made_for)

    @classmethod
    def adopt(cls, content: Checkpoint, path: Path, model: str | None) -> FullWeights | None:
        """Take the weights out of a file that others made, in any naming of the architecture."""
        if not is_vision_model(content):
            return None
        spec, values = _translated(state_dict(content, path), path, model)
        return cls(values, spec.resampling, backbone=spec.name)

    def parameters(self) -> dict[str, Tensor]:
        """Return every weight."""
        return dict(self.values)

    def replaced(self, parameters: Mapping[str, Tensor]) -> FullWeights:
        """Return other weights, made for the same."""
        return replace(self, values={name: parameters[name] for name in self.values})

    def entry(self) -> OwnWeights:
        """Return the weights as they take the place of a model's own."""
        return OwnWeights(self.values, self.resampling)

    def merged_into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return these weights."""
        return {**weights, **self.values}

    def untrained(self, backbone: Backbone, seed: int, *draw: object) -> FullWeights:
        """Copy the backbone's weights, where a training starts."""
        return replace(self, values=_copied(backbone))

    def settings(self) -> dict[str, Any]:
        """Return the kind, which is all there is to choose."""
        return {"kind": self.kind}


def _copied(backbone: Backbone) -> dict[str, Tensor]:
    return {name: tensor.detach().float().clone() for name, tensor in backbone.weights().items()}


def _translated(state: dict[str, Tensor], path: Path, model: str | None) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Return the backbone and the weights under timm's names; without a name, the backbone is the one that they fit."""
    spec = only_match(state, path) if model is None else find(model)
    return spec, translate_weights(spec, state, path).tensors
