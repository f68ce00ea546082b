"""IoU against a slow count, summed over groups and draws."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.results.iou import class_iou, group_totals, mean_iou, mean_known, pixel_accuracy, total

A, B = [[0, 3, 4, 5], [2, 1, 2, 1]], [[2, 5, 5, 6]]


def test_totals_add_up() -> None:
    assert total([A, B], 4).tolist() == [[3, 4, 5], [0, 0, 0], [6, 7, 7], [0, 0, 0]]
    both = group_totals([[A, B], [B, B], [A, A]], [0, 1, 0])
    assert both.shape == (2, 2, 3, 3)
    assert both[0, 0].tolist() == total([A, A], 3).tolist() and both[1, 0].tolist() == total([B, A], 3).tolist()
    assert both[0, 1].tolist() == total([B], 3).tolist()


def test_iou_of_classes_that_occur() -> None:
    totals = total([A, B], 4)
    np.testing.assert_allclose(class_iou(totals), [3 / 6, np.nan, 6 / 8, np.nan])
    assert mean_iou(totals) == pytest.approx((3 / 6 + 6 / 8) / 2)
    assert pixel_accuracy(totals) == pytest.approx(9 / 11)
    assert mean_known(np.array([[0.5, np.nan], [1.0, np.nan]])).tolist() == pytest.approx([0.75, np.nan], nan_ok=True)


def test_without_a_labeled_pixel_there_is_nothing() -> None:
    assert np.isnan(mean_iou(total([], 3))) and np.isnan(pixel_accuracy(total([], 3)))
