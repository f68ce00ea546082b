"""What an evaluation of segmentation writes beside its results: IoU per class, and pictures of predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rtok.attacks.stored import file_name
from rtok.evaluation.examples import attacked_examples
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.trial import Trial
from rtok.results.rows import KEYS
from rtok.setup import Setup

if TYPE_CHECKING:
    from rtok.evaluation.tasks.segmentation.task import SegmentationTask


def per_class(rows: Sequence[dict[str, Any]]) -> str:
    """Render the IoU of every class that occurs, for every row of the results."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, "class", "clean_iou", "adversarial_iou"])
    for row in rows:
        who = [row[key] for key in KEYS]
        writer.writerows([*who, name, *ious] for name, ious in row["class_iou"].items())
    return text.getvalue()


def draw_predictions(
    task: SegmentationTask, setup: Setup, evaluator: Evaluator, trial: Trial, key: str, folder: Path
) -> None:
    """Draw what the plain victim and the first robust one, if any, see in a picture, before and after the attack."""
    from rtok.reporting.figures.segmentation import segmentation_maps

    found = attacked_examples(setup, evaluator, trial, [key])
    if found is None:  # it cannot be decoded
        return
    shown, title = {"plain": evaluator.victims[0]}, f"{key}: attack {trial.name}"
    title += ", its first variant" if len(trial.runs) > 1 else ""
    robust = [victim for victim in evaluator.victims if victim.role == "robust"]
    if robust:
        shown["robust"] = [victim for victim in robust if victim.file == robust[0].file][-1]
        title += f", {shown['robust'].head} head on the robust victim"
    with torch.no_grad():
        maps = {
            f"{name}, {state}": task.reduce(evaluator.models[victim](seen), found.batch)[0].cpu().numpy()
            for name, victim in shown.items()
            for state, seen in (("clean", found.images), ("adversarial", found.adversarial))
        }
    folder.mkdir(exist_ok=True)
    segmentation_maps(
        found.batch.images[0],
        {"ground truth": task.labels(key).numpy(), **maps},
        task.source.class_names,
        task.source.palette,
        folder / file_name(key),
        title=title,
    )
