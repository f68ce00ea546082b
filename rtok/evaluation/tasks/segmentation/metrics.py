"""What a prediction and its labels have in common, counted in pixels, and the prediction itself."""

from __future__ import annotations

import torch
from torch import Tensor

from rtok.data.masks import IGNORE
from rtok.results.iou import Areas


def confusion(prediction: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count pixels by (label, prediction): int64 (K, K). Pixels labeled `IGNORE` count nowhere."""
    counted = labels != IGNORE
    pairs = labels[counted].long() * classes + prediction[counted].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def areas(matrix: Tensor) -> Areas:
    """Return what IoU needs of a confusion matrix (K, K), for the classes that occur."""
    columns = torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)], dim=1).cpu()
    present = columns.any(1).nonzero()
    return torch.cat([present, columns[present[:, 0]]], dim=1).tolist()


def predicted_classes(logits: Tensor, size: tuple[int, int], chunk: int = 16) -> Tensor:
    """Return the likeliest class (B, H, W) of logits (B, K, h, w) after bilinear resizing to `size`.

    Classes are resized a few at a time: 150 classes of a large picture would need gigabytes.
    """
    if logits.shape[2:] == size:
        return logits.argmax(1)
    best = winner = logits.new_zeros(())
    for first in range(0, logits.shape[1], chunk):
        resized = torch.nn.functional.interpolate(
            logits[:, first : first + chunk], size, mode="bilinear", align_corners=False
        )
        value, index = resized.max(1)
        if first == 0:
            best, winner = value, index
        else:
            winner = torch.where(value > best, index + first, winner)  # equal: the lower class, as argmax
            best = torch.maximum(value, best)
    return winner
