"""What a training raises, and what its attack lowers: the likeness of features to the plain clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from rtok.attacks.criteria import FeatureCriterion, cosine
from rtok.attacks.objective import Chosen

if TYPE_CHECKING:
    from rtok.config.training import TrainConfig


def likeness(features: Tensor, target: Tensor, settings: TrainConfig) -> Tensor:
    """The trained quantity per image, (B,): the cosine along `axis`, or minus the squared distance."""
    if settings.objective == "cosine":
        return cosine(features, target, settings.axis)
    return -squared_distance(features, target)


def squared_distance(features: Tensor, target: Tensor) -> Tensor:
    """Squared L2 distance per image, (B,): of embeddings (B, E), or of tokens (B, 1+P, D) as a mean over the tokens."""
    distance = (features - target).square().sum(-1)
    return distance if distance.ndim == 1 else distance.mean(1)


@dataclass(frozen=True)
class DistanceCriterion(FeatureCriterion):
    """Push features away from a target by their squared distance (FARE: Schlarmann et al., 2024, section 3)."""

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """The squared distance to the target, (b,)."""
        return squared_distance(*self.compared(output, images))
