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
Chosen = slice | Tensor  # which of a batch's images: a part of it, or their places (b,)


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

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Loss (b,) for the batch's images `images`, whose surrogate outputs are `output`."""
        ...

    def solved(self, loss: Tensor) -> Tensor:
        """Whether an image with this loss needs no more attack, (b,) bool."""
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

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Minus the mean cosine to the target, (b,) in [-1, 1]."""
        return -cosine(output, self.target[images], self.axis)

    def solved(self, loss: Tensor) -> Tensor:
        """Never: features can always be further away."""
        return torch.zeros_like(loss, dtype=torch.bool)


@dataclass(frozen=True)
class LabelCriterion:
    """Push logits away from labels: the loss, averaged over the pixels that count in segmentation.

    Args:
        labels: (B,) for logits (B, K), or (B, H, W) for logits (B, K, H, W); int64.
        ignore_index: the label that counts nowhere.
        loss: the cross-entropy, or the margin: the largest wrong logit minus the right one (Carlini & Wagner, 2017),
            whose gradient does not fade where the model is sure.
    """

    labels: Tensor
    ignore_index: int = 255
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Loss per image, (b,); zero for an image without a label that counts."""
        labels, logits = self.labels[images], output.float()
        if self.loss == "margin":
            loss = self._margin(logits, labels)
        else:
            loss = F.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")
        if loss.ndim == 1:
            return loss
        counted = (labels != self.ignore_index).flatten(1).sum(1).clamp(min=1)
        return loss.flatten(1).sum(1) / counted

    def solved(self, loss: Tensor) -> Tensor:
        """Whether the image is misclassified: known of the margin, and of one label an image."""
        known = self.loss == "margin" and self.labels.ndim == 1
        return loss > 0 if known else torch.zeros_like(loss, dtype=torch.bool)

    def _margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        counts = labels != self.ignore_index
        index = torch.where(counts, labels, 0)[:, None]
        right = logits.gather(1, index)
        wrong = logits.scatter(1, index, -torch.inf).amax(1, keepdim=True)
        return (wrong - right)[:, 0] * counts


@dataclass(frozen=True)
class Objective:
    """A surrogate and a criterion, with the one gradient that an attack needs: that with respect to the images.

    Args:
        micro_batch: how many images go through the surrogate at once; None means all. The result does not depend on it.
        view: what the surrogate sees of the images when a gradient is taken; None means the images.
    """

    surrogate: Surrogate
    criterion: Criterion
    micro_batch: int | None = None
    view: Callable[[Tensor, slice, Draw], Tensor] | None = None

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

    def loss(self, images: Tensor, draw: Draw, chosen: Tensor | None = None) -> Tensor:
        """Return the loss per image (B,) without a gradient; `chosen`: the images' places in the batch, if not all."""
        B = images.shape[0]
        parts = [slice(i, min(B, i + (self.micro_batch or B))) for i in range(0, B, self.micro_batch or B)]
        with torch.no_grad():
            return torch.cat(
                [self._loss(images[part], part if chosen is None else chosen[part], draw) for part in parts]
            )

    def _loss(self, images: Tensor, part: Chosen, draw: Draw) -> Tensor:
        terms = [
            weight * self.criterion(model(images), part) for weight, model in self.surrogate.members(draw)
        ]
        return terms[0] if len(terms) == 1 else torch.stack(terms).sum(0)

    def _part(self, images: Tensor, part: slice, draw: Draw) -> tuple[Tensor, Tensor]:
        images = images.detach().requires_grad_(True)
        seen = images if self.view is None else self.view(images, part, draw)
        loss = self._loss(seen, part, draw)
        # The sum, not the mean: an image's gradient must not depend on how many others are in its batch.
        (gradient,) = torch.autograd.grad(loss.sum(), images)
        return loss.detach(), gradient
