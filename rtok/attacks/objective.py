"""What an attack maximises: a surrogate (the model attacked) and a criterion (what its output should become)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Axis = Literal["token", "channel"]
Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Draw:
    """Which random draw of an attack this is; surrogates that draw anew each step derive their seed from it."""

    restart: int
    step: int


class Surrogate(Protocol):
    """The model that an attack is crafted on: one or more weighted members, possibly drawn anew each step."""

    def members(self, draw: Draw) -> Sequence[tuple[float, Model]]:
        """The members of this step as (weight, model) with weights that sum to 1."""
        ...


@dataclass(frozen=True)
class FixedSurrogate:
    """A surrogate of one model that never changes: the `transfer` and `adaptive` threats."""

    model: Model

    def members(self, draw: Draw) -> Sequence[tuple[float, Model]]:
        """The model, with weight one."""
        return [(1.0, self.model)]


class Criterion(Protocol):
    """Maps the surrogate's output to one loss per image, which the attack maximises."""

    def __call__(self, output: Tensor, images: slice) -> Tensor:
        """Loss (b,) for the batch's images `images`, whose surrogate outputs are `output`."""
        ...


def cosine(features: Tensor, target: Tensor, axis: Axis) -> Tensor:
    """Mean cosine similarity per image, (B,).

    `channel` compares every token's feature vector, which is the usual meaning; `token` compares every channel over the
    tokens, which is what the paper's code computes (DESIGN section 2). Embeddings (B, E) have channels only.
    """
    dim = 1 if axis == "token" or features.ndim == 2 else -1
    similarity = F.cosine_similarity(features, target, dim=dim)
    return similarity if similarity.ndim == 1 else similarity.mean(dim=1)


@dataclass(frozen=True)
class FeatureCriterion:
    """Push features away from a target: minus the mean cosine similarity (paper, eq. of the feature attack).

    Args:
        target: (B, 1+P, D) features or (B, E) embeddings of the clean images, without gradient.
    """

    target: Tensor
    axis: Axis

    def __call__(self, output: Tensor, images: slice) -> Tensor:
        """Minus the mean cosine to the target, (b,) in [-1, 1]."""
        return -cosine(output, self.target[images], self.axis)


@dataclass(frozen=True)
class LabelCriterion:
    """Push logits away from labels: the cross-entropy, averaged over the pixels that count in segmentation.

    Args:
        labels: (B,) for logits (B, K), or (B, H, W) for logits (B, K, H, W); int64.
        ignore_index: the label that counts nowhere.
    """

    labels: Tensor
    ignore_index: int = 255

    def __call__(self, output: Tensor, images: slice) -> Tensor:
        """Cross-entropy per image, (b,), non-negative; zero for an image without a label that counts."""
        labels = self.labels[images]
        loss = F.cross_entropy(output.float(), labels, ignore_index=self.ignore_index, reduction="none")
        if loss.ndim == 1:
            return loss
        counted = (labels != self.ignore_index).flatten(1).sum(1).clamp(min=1)
        return loss.flatten(1).sum(1) / counted


@dataclass(frozen=True)
class Objective:
    """A surrogate and a criterion, with the one gradient that an attack needs: that with respect to the images.

    Args:
        micro_batch: how many images go through the surrogate at once; None means all. The result does not depend on it.
    """

    surrogate: Surrogate
    criterion: Criterion
    micro_batch: int | None = None

    def loss_and_gradient(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the loss per image (B,) and its gradient (B, C, H, W); neither carries a graph."""
        B = images.shape[0]
        losses, gradients = [], []
        for begin in range(0, B, self.micro_batch or B):
            part = slice(begin, min(B, begin + (self.micro_batch or B)))
            loss, gradient = self._part(images[part], part, draw)
            losses.append(loss)
            gradients.append(gradient)
        return (losses[0], gradients[0]) if len(losses) == 1 else (torch.cat(losses), torch.cat(gradients))

    def loss(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the loss per image (B,) without a gradient."""
        B = images.shape[0]
        parts = [slice(i, min(B, i + (self.micro_batch or B))) for i in range(0, B, self.micro_batch or B)]
        with torch.no_grad():
            return torch.cat([self._loss(images[part], part, draw) for part in parts])

    def _loss(self, images: Tensor, part: slice, draw: Draw) -> Tensor:
        terms = [
            weight * self.criterion(model(images), part) for weight, model in self.surrogate.members(draw)
        ]
        return terms[0] if len(terms) == 1 else torch.stack(terms).sum(0)

    def _part(self, images: Tensor, part: slice, draw: Draw) -> tuple[Tensor, Tensor]:
        images = images.detach().requires_grad_(True)
        loss = self._loss(images, part, draw)
        # The sum, not the mean: an image's gradient must not depend on how many others are in its batch.
        (gradient,) = torch.autograd.grad(loss.sum(), images)
        return loss.detach(), gradient
