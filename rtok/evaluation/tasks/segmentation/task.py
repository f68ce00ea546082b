"""Segmentation as a task of the evaluation loop: mIoU of the predicted classes, clean and under attack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rtok.attacks.masks import MaskCriterion
from rtok.attacks.objective import Criterion, Model
from rtok.data.framing import Framing
from rtok.data.masks import IGNORE, MaskedFiles
from rtok.evaluation.examples import transfer_trial
from rtok.evaluation.task import Columns, Task, View
from rtok.evaluation.tasks.headed import headed
from rtok.evaluation.tasks.segmentation import metrics
from rtok.evaluation.tasks.segmentation.figures import draw_predictions, per_class
from rtok.evaluation.victims import Victim
from rtok.files import write_atomic
from rtok.heads.segmentation.heads import SegmentationHeads, check_masks
from rtok.heads.store import PLAIN
from rtok.results import iou
from rtok.results.images import Images
from rtok.results.iou import Areas

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.data.loader import Batch
    from rtok.evaluation.loop import Evaluator
    from rtok.runs.run import Run
    from rtok.setup import Setup

KEPT_MASKS = 64  # an image's mask is used for each of its attacks and victims: more than a batch's are kept


class SegmentationTask(Task):
    """Compares the class that a victim predicts for each pixel with the mask.

    In `slide` an image is measured at its own size, as the field does; in `crop` at the crop's.
    """

    command = "eval-seg"
    worst_by = "adversarial_image_miou"
    plain_head = PLAIN

    def __init__(self, source: MaskedFiles, framing: Framing, heads: SegmentationHeads) -> None:
        self.source = source
        self.framing = framing
        self.heads = heads
        self.robust_heads, self.control_heads = heads.settings.robust_victims, heads.settings.control_victims
        self.split = heads.split
        self._classes = len(source.class_names)
        places = {key: index for index, key in enumerate(source.keys)}
        self._mask = lru_cache(KEPT_MASKS)(lambda key: source.read_mask(places[key]))

    @classmethod
    def open(cls, setup: Setup) -> SegmentationTask:
        """Check every mask and the heads that there are.

        Raises:
            UserError: data without masks, masks that cannot be used, heads that do not fit.
        """
        source, framing = setup.source, setup.transform
        assert isinstance(source, MaskedFiles) and isinstance(framing, Framing)
        check_masks(source, setup.config.data.split, enabled=setup.compute.is_main)
        return cls(source, framing, SegmentationHeads(setup, source, framing))

    def model(self, victim: Victim) -> Model:
        """The victim with its head: images (b, 3, H, W) to logits (b, K, H, W)."""
        return headed(self.heads, victim)

    def hidden(self, victim: Victim, depth: float) -> Model:
        """Images to the features (b, windows * (1+P), D) inside a backbone, window after window."""
        return self.heads.hidden(victim.features, depth)

    def prepare(self, run: Run) -> None:
        """Fit the heads that no file names."""
        self.heads.prepare(run)

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """The attack's loss on the labels of the pixels that the model sees, averaged over those with one."""
        labels = torch.stack([self.framing.mask(self._mask(key), key) for key in batch.keys])
        return MaskCriterion(labels.to(target.device), ignore_index=IGNORE, loss=attack.loss)

    def reduce(self, output: Tensor, batch: Batch) -> Tensor:
        """The predicted classes (b, H, W), as large as the labels that they are measured with."""
        H, W = self.labels(batch.keys[0]).shape
        return metrics.predicted_classes(output, (H, W))

    def measure(self, view: View) -> Columns:
        """Per image its mean IoU over the classes that occur in it, its pixel accuracy, and its areas."""
        columns: Columns = {}
        for name, predictions in (("clean", view.clean), ("adversarial", view.adversarial)):
            areas = [self._areas(key, prediction) for key, prediction in zip(view.batch.keys, predictions, strict=True)]
            totals = [iou.total([image], self._classes) for image in areas]
            columns[f"{name}_image_miou"] = _column(map(iou.mean_iou, totals))
            columns[f"{name}_pixel_accuracy"] = _column(map(iou.pixel_accuracy, totals))
            columns[f"{name}_areas"] = areas
        columns["image_linf_255"] = view.image_linf_255
        return columns

    def summarize(self, images: Images) -> dict[str, Any]:
        """Beside the columns the IoU of every class that occurs, clean and adversarial; the mean over draws."""
        ious = []
        for name in ("clean", "adversarial"):
            draws = zip(*images.lists[f"{name}_areas"], strict=True)
            totals = [iou.total(areas, self._classes) for areas in draws]
            ious.append(iou.mean_known(np.stack([iou.class_iou(t) for t in totals])))
        classes = {
            name: [None if np.isnan(value) else float(value) for value in pair]
            for name, *pair in zip(self.source.class_names, *ious, strict=True)
            if not np.isnan(pair).all()
        }
        return {**super().summarize(images), "class_iou": classes}

    def draw(self, setup: Setup, evaluator: Evaluator, rows: Sequence[dict[str, Any]], out: Path) -> None:
        """Write `per_class.csv` and draw the summary and the predictions on a few pictures."""
        from rtok.reporting.figures.summary import summary_figures

        summary_figures(rows, out, self.command)
        write_atomic(out / "per_class.csv", per_class(rows))
        trial = transfer_trial(evaluator)
        if trial is not None:
            for key in self.source.keys[: setup.config.segmentation.pictures]:
                draw_predictions(self, setup, evaluator, trial, key, out / "pictures")

    def labels(self, key: str) -> Tensor:
        """The labels (H, W) that predictions are measured with; the mask is a part of the image in `crop`."""
        mask = self._mask(key)
        return self.framing.mask(mask, key) if self.framing.mode == "crop" else torch.from_numpy(mask)

    def _areas(self, key: str, prediction: Tensor) -> Areas:
        labels = self.labels(key).to(prediction.device)
        return metrics.areas(metrics.confusion(prediction, labels, self._classes))


def _column(values: Iterable[np.ndarray]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)
