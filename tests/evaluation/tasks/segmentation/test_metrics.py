"""IoU against a slow count pixel by pixel, and against mmseg's own metric."""

import math

import pytest
import torch
from torch.nn import functional as F

from rtok.evaluation.tasks.segmentation.metrics import areas, confusion, predicted_classes
from rtok.heads.segmentation import engine
from rtok.results.iou import mean_iou, pixel_accuracy, total

K = 6


def random_maps(count: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predictions (int64) and labels (uint8) of several shapes; class 4 is never labeled, class 5 nowhere."""
    g = torch.Generator().manual_seed(0)
    maps = []
    for i in range(count):
        shape = (7 + i, 9)
        labels = torch.randint(0, 4, shape, generator=g)
        predictions = torch.where(torch.rand(shape, generator=g) < 0.6, labels, torch.randint(0, 5, shape, generator=g))
        labels[torch.rand(shape, generator=g) < 0.2] = 255
        maps.append((predictions, labels.to(torch.uint8)))
    return maps


def naive(maps: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float]:
    """mIoU and pixel accuracy, by sets of pixels."""
    pixels = [
        (i, p, int(prediction.flatten()[p]), int(labels.flatten()[p]))
        for i, (prediction, labels) in enumerate(maps)
        for p in range(labels.numel())
        if int(labels.flatten()[p]) != 255
    ]
    ious = []
    for k in range(K):
        predicted = {(i, p) for i, p, a, _ in pixels if a == k}
        labeled = {(i, p) for i, p, _, b in pixels if b == k}
        if predicted | labeled:
            ious.append(len(predicted & labeled) / len(predicted | labeled))
    return sum(ious) / len(ious), sum(a == b for _, _, a, b in pixels) / len(pixels)


def test_miou_equals_a_count_pixel_by_pixel() -> None:
    maps = random_maps()
    images = [areas(confusion(p, y, K)) for p, y in maps]
    for chosen in ([0], [2], [0, 1, 2, 3]):
        expected = naive([maps[i] for i in chosen])
        totals = total([images[i] for i in chosen], K)
        assert (mean_iou(totals), pixel_accuracy(totals)) == pytest.approx(expected, abs=1e-9, rel=0)


def test_miou_equals_mmsegs_metric_within_its_rounding() -> None:
    engine.start()
    from mmseg.evaluation import IoUMetric

    maps = random_maps()
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": [str(k) for k in range(K)]}
    samples = [{"pred_sem_seg": {"data": p[None]}, "gt_sem_seg": {"data": y[None].long()}} for p, y in maps]
    metric.process({}, samples)
    theirs = metric.compute_metrics(metric.results)
    totals = total([areas(confusion(p, y, K)) for p, y in maps], K)
    # two decimals of a percent
    assert 100 * mean_iou(totals) == pytest.approx(theirs["mIoU"], abs=0.005 + 1e-6)
    assert 100 * pixel_accuracy(totals) == pytest.approx(theirs["aAcc"], abs=0.005 + 1e-6)


def test_only_classes_that_occur_are_kept_and_counts_are_whole() -> None:
    labels = torch.tensor([[1, 1, 255], [3, 1, 255]], dtype=torch.uint8)
    predictions = torch.tensor([[1, 3, 0], [3, 4, 1]])
    assert areas(confusion(predictions, labels, K)) == [[1, 1, 3, 1], [3, 1, 1, 2], [4, 0, 0, 1]]


def test_an_image_without_labels_has_no_iou() -> None:
    nothing = confusion(torch.zeros(2, 2).long(), torch.full((2, 2), 255), K)
    assert areas(nothing) == []
    assert math.isnan(mean_iou(total([[]], K))) and math.isnan(pixel_accuracy(total([[]], K)))


@pytest.mark.parametrize("classes", [3, 16, 40])
def test_the_likeliest_class_is_found_a_few_classes_at_a_time(classes: int) -> None:
    logits = torch.randn(2, classes, 5, 7, generator=torch.Generator().manual_seed(0))
    logits[:, -1] = logits[:, 0]  # a tie goes to the lower class
    for size in ((11, 6), (5, 7), (3, 20)):
        expected = F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)
        assert torch.equal(predicted_classes(logits, size), expected)
