"""Intersection over union, from whole numbers: confusion counts per image that add up to the data set's.

Of the confusion matrix, IoU and pixel accuracy need its diagonal and its margins. They are kept per image as
`[class, intersection, labeled, predicted]` pixels of each class that occurs, which adds up exactly in any
order, over resumed runs and over processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Areas = list[list[int]]
Totals = NDArray[Any]  # (..., K, 3): intersection, labeled, predicted pixels; whole numbers


def total(images: Iterable[Areas], classes: int) -> Totals:
    """Add images up: (K, 3)."""
    sums = np.zeros((classes, 3), dtype=np.int64)
    for image in images:
        for number, *counts in image:
            sums[number] += counts
    return sums


def group_totals(images: Sequence[Sequence[Areas]], membership: Sequence[int]) -> Totals:
    """Add up n images, measured D times each, per group: (D, G, K, 3), K up to the last class that occurs.

    Args:
        membership: (n,), each image's group as a number.
    """
    classes = 1 + max((part[0] for draws in images for areas in draws for part in areas), default=0)
    sums = np.zeros((len(images[0]), max(membership) + 1, classes, 3))
    for draws, group in zip(images, membership, strict=True):
        for draw, areas in enumerate(draws):
            sums[draw, group] += total([areas], classes)
    return sums


def class_iou(totals: Totals) -> NDArray[np.float64]:
    """Return each class's IoU (..., K) from (..., K, 3); NaN where it is neither labeled nor predicted."""
    intersection, labeled, predicted = np.moveaxis(totals, -1, 0)
    union = labeled + predicted - intersection
    return np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(totals: Totals) -> NDArray[np.float64]:
    """Return the mean (...) over the classes that are labeled or predicted; NaN if no pixel is labeled."""
    return mean_known(np.moveaxis(class_iou(totals), -1, 0))


def pixel_accuracy(totals: Totals) -> NDArray[np.float64]:
    """Return the share (...) of labeled pixels that are predicted rightly; NaN if there is none."""
    intersection, labeled, _ = np.moveaxis(totals.sum(axis=-2), -1, 0)
    return np.divide(intersection, labeled, out=np.full(labeled.shape, np.nan), where=labeled > 0)[()]


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)[()]
