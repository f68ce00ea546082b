"""What attacks make of the surrogate's output: features that move away from a target, labels that turn wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.attacks.objective import Chosen

Axis = Literal["token", "channel"]


def cosine(features: Tensor, target: Tensor, axis: Axis) -> Tensor:
    """Mean cosine similarity per image, (B,).

    `channel` compares every token's feature vector, which is the usual meaning; `token` compares every channel over the
    tokens, which is what the paper's code computes. Embeddings (B, E) have channels only.
    """
    dim = 1 if axis == "token" or features.ndim == 2 else -1
    similarity = F.cosine_similarity(features, target, dim=dim)
    return similarity if similarity.ndim == 1 else similarity.mean(dim=1)


def single(output: Tensor) -> Tensor:
    """The same in single precision or better: halves are too coarse for losses."""
    return output if output.dtype == torch.float64 else output.float()


@dataclass(frozen=True)
class FeatureCriterion:
    """Push features away from a target: minus the mean cosine similarity (paper, eq. of the feature attack).

    Args:
        target: (B, 1+P, D) features or (B, E) embeddings of the clean images, without gradient.
        features: `all` tokens, or the class token (`cls`) alone, always over its channels.
    """

    target: Tensor
    axis: Axis
    features: Literal["all", "cls"] = "all"

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Minus the mean cosine to the target, (b,) in [-1, 1]."""
        return -cosine(*self.compared(output, images), self.axis)

    def compared(self, output: Tensor, images: Chosen) -> tuple[Tensor, Tensor]:
        """The features that count of an output, and those of the target."""
        target = self.target[images]
        return (output[:, 0], target[:, 0]) if self.features == "cls" and output.ndim == 3 else (output, target)

    def fooled(self, output: Tensor, images: Chosen) -> Tensor:
        """Never: features are not right or wrong."""
        return output.new_zeros(len(output), dtype=torch.bool)

    def solved(self, loss: Tensor) -> Tensor:
        """Never: features can always be further away."""
        return torch.zeros_like(loss, dtype=torch.bool)


@dataclass(frozen=True)
class LabelCriterion:
    """Push logits away from the image's label; `MaskCriterion` is for labels of pixels.

    Args:
        labels: (B,), int64, for logits (B, K).
        ignore_index: the label that counts nowhere.
        loss: the cross-entropy; or the margin: the largest wrong logit minus the right one (Carlini & Wagner, 2017),
            whose gradient does not fade where the model is sure; or `dlr`, the margin over the distance of the
            largest logit from the third, which no scale of the logits changes (Croce & Hein, 2020, section 4).
            With two classes that is the margin.
    """

    labels: Tensor
    ignore_index: int = 255
    loss: Literal["cross-entropy", "margin", "dlr"] = "cross-entropy"

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Loss per image, (b,); zero for an image whose label does not count."""
        labels, logits = self.labels[images], single(output)
        if self.loss == "cross-entropy":
            return F.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")
        return margin(logits, labels, self.ignore_index, scaled=self.loss == "dlr")

    def fooled(self, output: Tensor, images: Chosen) -> Tensor:
        """Whether the image is misclassified."""
        labels = self.labels[images]
        return (output.argmax(1) != labels) & (labels != self.ignore_index)

    def solved(self, loss: Tensor) -> Tensor:
        """Whether the image is misclassified: the sign of the margin tells."""
        return loss > 0 if self.loss != "cross-entropy" else torch.zeros_like(loss, dtype=torch.bool)


def margin(logits: Tensor, labels: Tensor, ignore_index: int, *, scaled: bool = False) -> Tensor:
    """The largest wrong logit of (B, K, ...) minus the right one, as the labels (B, ...); 0 where none counts.

    Args:
        scaled: over the distance of the largest logit from the third, where there are three (DLR).
    """
    counts = labels != ignore_index
    index = torch.where(counts, labels, 0)[:, None]
    wrong = logits.scatter(1, index, -torch.inf).amax(1, keepdim=True)
    found = (wrong - logits.gather(1, index))[:, 0] * counts
    if scaled and logits.shape[1] > 2:
        largest = logits.topk(3, dim=1).values
        found = found / (largest[:, 0] - largest[:, 2]).clamp(min=1e-12)
    return found
