"""Segmentation as a task of the evaluation loop: mIoU of the predicted classes, clean and under attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rtok.attacks.objective import Criterion, LabelCriterion, Model
from rtok.data.framing import Framing
from rtok.data.masks import IGNORE, MaskedFiles
from rtok.evaluation.heads import PLAIN
from rtok.evaluation.segmentation import metrics
from rtok.evaluation.segmentation.heads import SegmentationHeads
from rtok.evaluation.task import Columns, View
from rtok.evaluation.victims import Victim
from rtok.results.columns import COLUMNS
from rtok.results.summary import means

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.data.loader import Batch
    from rtok.evaluation.segmentation.metrics import Areas
    from rtok.models.backbone import Backbone
    from rtok.runs.folder import RunFolder

KEPT_MASKS = 64  # an image's mask is used for each of its attacks and victims: more than a batch's are kept


@dataclass
class SegmentationTask:
    """Compares the class that a victim predicts for each pixel with the mask.

    In `slide` an image is measured at its own size, as the field does; in `crop` at the crop's.
    """

    source: MaskedFiles
    framing: Framing
    heads: SegmentationHeads
    robust_heads: tuple[str, ...]
    plain_head: str = PLAIN
    command: str = "eval-seg"
    objective: Literal["labels"] = "labels"
    severity: str = "adversarial_image_miou"
    several_targets: bool = False
    wants_probe: bool = False
    _places: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._places = {key: index for index, key in enumerate(self.source.keys)}
        self._mask = lru_cache(KEPT_MASKS)(self._read_mask)

    def model(self, victim: Victim) -> Model:
        """The victim with its head: images (b, 3, H, W) to logits (b, K, H, W)."""
        return self.heads.of_victim(victim)

    def surrogate(self, backbone: Backbone, tokens: Tensor | None) -> Model:
        """A surrogate with the head that the config gives it."""
        return self.heads.of_surrogate(backbone, tokens)

    def hidden(self, backbone: Backbone, tokens: Tensor | None, depth: float) -> Model:
        """Images to the features (b, windows * (1+P), D) inside a backbone, window after window."""
        return self.heads.hidden(backbone, tokens, depth)

    def prepare(self, folder: RunFolder) -> None:
        """Fit the heads that no file names."""
        self.heads.prepare(folder)

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """The cross-entropy of the labels of the pixels that the model sees, averaged over those with one."""
        labels = torch.stack([self.framing.mask(self._mask(key), key) for key in batch.keys])
        return LabelCriterion(labels.to(target.device), ignore_index=IGNORE, loss=attack.loss)

    def digest(self, output: Tensor, batch: Batch) -> Tensor:
        """The predicted classes (b, H, W), as large as the labels that they are measured with."""
        H, W = self.labels(batch.keys[0]).shape
        return metrics.predicted_classes(output, (H, W))

    def measure(self, view: View) -> Columns:
        """Per image its mean IoU over the classes that occur in it, its pixel accuracy, and its areas."""
        columns: Columns = {}
        for name, predictions in (("clean", view.clean), ("adversarial", view.adversarial)):
            areas = [
                self._areas(key, prediction)
                for key, prediction in zip(view.batch.keys, predictions, strict=True)
            ]
            totals = [metrics.total([image], self._classes) for image in areas]
            columns[f"{name}_image_miou"] = _column(map(metrics.mean_iou, totals))
            columns[f"{name}_pixel_accuracy"] = _column(map(metrics.pixel_accuracy, totals))
            columns[f"{name}_areas"] = [[image] for image in areas]  # one draw, which others may join
        columns["image_linf_255"] = (view.adversarial_images - view.images).abs().flatten(1).amax(1) * 255
        return columns

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """IoU from one confusion matrix over the data set, and means of per-image values; with 95 % intervals.

        Rows of the control hold several draws: their numbers are means over the draws.
        """
        groups = [row["group"] for row in rows]
        summary, intervals = means(rows, COLUMNS[self.command])
        ious: dict[str, np.ndarray] = {}
        for name in ("clean", "adversarial"):
            draws: list[Sequence[Areas]] = list(zip(*(row[f"{name}_areas"] for row in rows), strict=True))
            totals = [metrics.total(images, self._classes) for images in draws]
            ious[name] = metrics.mean_known(np.stack([metrics.class_iou(t) for t in totals]))
            summary[f"{name}_miou"] = _mean([metrics.mean_iou(t) for t in totals])
            both = metrics.bootstrap_intervals(draws, groups, self._classes)
            intervals[f"{name}_miou"], intervals[f"{name}_pixel_accuracy"] = both
            summary[f"{name}_pixel_accuracy"] = _mean([metrics.pixel_accuracy(t) for t in totals])
        summary["pixel_accuracy"] = summary.pop("adversarial_pixel_accuracy")
        intervals["pixel_accuracy"] = intervals.pop("adversarial_pixel_accuracy")
        classes = {
            name: [None if np.isnan(iou) else float(iou) for iou in pair]
            for name, *pair in zip(self.source.class_names, ious["clean"], ious["adversarial"], strict=True)
            if not np.isnan(pair).all()
        }
        return {**summary, "ci95": intervals, "class_iou": classes}

    def labels(self, key: str) -> Tensor:
        """The labels (H, W) that predictions are measured with; the mask is a part of the image in `crop`."""
        mask = self._mask(key)
        return self.framing.mask(mask, key) if self.framing.mode == "crop" else torch.from_numpy(mask)

    @property
    def _classes(self) -> int:
        return len(self.source.class_names)

    def _read_mask(self, key: str) -> np.ndarray:
        return self.source.read_mask(self._places[key])

    def _areas(self, key: str, prediction: Tensor) -> Areas:
        labels = self.labels(key).to(prediction.device)
        return metrics.areas(metrics.confusion(prediction, labels, self._classes))


def _column(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return fmean(known) if known else None
