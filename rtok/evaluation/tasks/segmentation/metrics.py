"""Intersection over union, from whole numbers: confusion counts per image that add up to the data set's.

Of the confusion matrix, IoU and pixel accuracy need its diagonal and its margins. They are kept per image as
`[class, intersection, labelled, predicted]` pixels of each class that occurs, which adds up exactly in any
order, over resumed runs and over processes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtok.data.masks import IGNORE

Areas = list[list[int]]
Totals = NDArray[Any]  # (K, 3): intersection, labelled, predicted; int64
RESAMPLES = 1000  # of the bootstrap


def confusion(prediction: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count pixels by (label, prediction): int64 (K, K). Pixels labelled `IGNORE` count nowhere."""
    counted = labels != IGNORE
    pairs = labels[counted].long() * classes + prediction[counted].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def areas(matrix: Tensor) -> Areas:
    """Return what IoU needs of a confusion matrix (K, K), for the classes that occur."""
    columns = torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)], dim=1).cpu()
    present = columns.any(1).nonzero()
    return torch.cat([present, columns[present[:, 0]]], dim=1).tolist()


def total(images: Iterable[Areas], classes: int) -> Totals:
    """Add images up."""
    sums = np.zeros((classes, 3), dtype=np.int64)
    for image in images:
        for number, *counts in image:
            sums[number] += counts
    return sums


def class_iou(totals: Totals) -> NDArray[np.float64]:
    """Return each class's IoU (..., K) from (..., K, 3); NaN where it is neither labelled nor predicted."""
    intersection, labelled, predicted = np.moveaxis(totals, -1, 0)
    union = labelled + predicted - intersection
    return np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(totals: Totals) -> NDArray[np.float64]:
    """Return the mean (...) over the classes that are labelled or predicted; NaN if no pixel is labelled."""
    return mean_known(np.moveaxis(class_iou(totals), -1, 0))


def pixel_accuracy(totals: Totals) -> NDArray[np.float64]:
    """Return the share (...) of labelled pixels that are predicted rightly; NaN if there is none."""
    intersection, labelled, _ = np.moveaxis(totals.sum(axis=-2), -1, 0)
    return np.divide(intersection, labelled, out=np.full(labelled.shape, np.nan), where=labelled > 0)


def bootstrap_intervals(
    draws: Sequence[Sequence[Areas]], groups: Sequence[Hashable], classes: int
) -> tuple[list[float] | None, list[float] | None]:
    """Return the 95 % intervals of the data set's mIoU and pixel accuracy; None below two groups.

    A cluster bootstrap over images: whole groups are drawn with replacement, their areas added up anew. Several
    draws of the control are averaged.
    """
    numbers: dict[Hashable, int] = {}
    membership = [numbers.setdefault(group, len(numbers)) for group in groups]
    count = len(numbers)
    if count < 2:
        return None, None
    generator = np.random.default_rng(0)
    chosen = generator.multinomial(count, [1 / count] * count, size=RESAMPLES).astype(np.float64)
    resampled = []
    for images in draws:
        sums = np.zeros((count, classes, 3))
        for group, image in zip(membership, images, strict=True):
            sums[group] += total([image], classes)
        resampled.append((chosen @ sums.reshape(count, -1)).reshape(RESAMPLES, classes, 3))
    mious, accuracies = ([of(sums) for sums in resampled] for of in (mean_iou, pixel_accuracy))
    return _middle(mious), _middle(accuracies)


def _middle(draws: Sequence[NDArray[np.float64]]) -> list[float] | None:
    """Where 95 % of the resamples lie, after a mean over draws; NaN of resamples without labels counts nowhere."""
    values = mean_known(np.stack(draws))
    if not np.isfinite(values).any():
        return None
    return [float(bound) for bound in np.nanquantile(values, [0.025, 0.975])]


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)


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
