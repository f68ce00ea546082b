"""What attacks on segmentation maximize: losses over a mask's pixels, those of SEA among them.

SEA is the ensemble of Croce, Singh & Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic
Segmentation Models" (ECCV 2024). An attack that raises the cross-entropy spends itself on pixels that are already
wrong, where it can grow without bound. SEA's losses leave those alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.attacks.criteria import margin, single
from rtok.attacks.objective import Chosen
from rtok.config.attack import Loss

IGNORED = -1  # what the functions below take for pixels that count nowhere


@dataclass(frozen=True)
class MaskCriterion:
    """Push logits away from masks: the loss, averaged over an image's labeled pixels.

    SEA judges its steps by the cross-entropy, whatever loss they raise: a masked loss falls to zero where a pixel
    turns wrong. So those three losses have the value of the cross-entropy and the gradient of their own.

    Args:
        labels: (B, H, W), int64, for logits (B, K, H, W).
        ignore_index: the label that counts nowhere.
        loss: the cross-entropy; `margin` or `dlr` as of a `LabelCriterion`, but at most zero, so that a wrong pixel has
            no say; or one of SEA's, see `masked_cross_entropy`, `balanced_cross_entropy` and
            `jensen_shannon`.
    """

    labels: Tensor
    ignore_index: int = 255
    loss: Loss = "cross-entropy"

    def __call__(self, output: Tensor, images: Chosen) -> Tensor:
        """Loss per image, (b,); zero for an image without a labeled pixel."""
        labels, logits = self._labels(images), single(output)
        if self.loss in ("margin", "dlr"):
            return _mean(margin(logits, labels, IGNORED, scaled=self.loss == "dlr").clamp(max=0), labels)
        entropy = _mean(F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none"), labels)
        if self.loss == "cross-entropy":
            return entropy
        followed = _mean(LOSSES[self.loss](logits, labels), labels)
        return followed + (entropy - followed).detach()

    def fooled(self, output: Tensor, images: Chosen) -> Tensor:
        """The share of an image's labeled pixels that are wrong, (b,); zero where none is labeled."""
        labels = self._labels(images)
        return _mean((output.argmax(1) != labels).float(), labels)

    def solved(self, loss: Tensor) -> Tensor:
        """Never known of the loss alone."""
        return torch.zeros_like(loss, dtype=torch.bool)

    def _labels(self, images: Chosen) -> Tensor:
        labels = self.labels[images]
        return torch.where(labels == self.ignore_index, IGNORED, labels)


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """L_MCE of SEA, per pixel (b, H, W): the cross-entropy where the pixel is still right, zero elsewhere."""
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none") * (logits.argmax(1) == labels)


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """L_MCE-Bal of SEA, per pixel (b, H, W): the masked cross-entropy, each pixel weighted by how rare its class is.

    A class's weight is the labeled pixels over its own and over the number of classes, so that all classes of the image
    count the same, as they do in its mean IoU. SEA counts the pixels of a whole data set; here they are the image's, so
    that its result does not depend on other images.
    """
    labeled, index = labels != IGNORED, labels.clamp(min=0).flatten(1)
    areas = logits.new_zeros(logits.shape[:2]).scatter_add_(1, index, labeled.flatten(1).to(logits.dtype))
    shares = areas / areas.sum(1, keepdim=True).clamp(min=1) * (areas > 0).sum(1, keepdim=True)
    return masked_cross_entropy(logits, labels) / shares.gather(1, index).view_as(labels).where(labeled, 1)


def jensen_shannon(logits: Tensor, labels: Tensor) -> Tensor:
    """L_JS of SEA, per pixel (b, H, W): the Jensen-Shannon divergence of the predicted distribution to the label.

    With a label's one-hot distribution it depends on the label's probability p alone:
    log 2 + (p log p - (1 + p) log(1 + p)) / 2. Its gradient fades where a pixel is surely wrong.
    """
    log_p = -F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    p = log_p.exp()
    return math.log(2) + (p * log_p - (1 + p) * p.log1p()) / 2


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "masked-cross-entropy": masked_cross_entropy,
    "balanced-cross-entropy": balanced_cross_entropy,
    "jensen-shannon": jensen_shannon,
}


def _mean(values: Tensor, labels: Tensor) -> Tensor:
    """The mean (b,) over labeled pixels of values (b, H, W)."""
    labeled = labels != IGNORED
    return (values * labeled).flatten(1).sum(1) / labeled.flatten(1).sum(1).clamp(min=1)
