"""`rtok eval-seg`: what tokens do to semantic segmentation, clean and under attack."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rtok.attacks.stored import file_name
from rtok.config.segmentation import SegmentationConfig
from rtok.data.framing import Framing
from rtok.data.masks import MaskedFiles
from rtok.evaluation.bench import Bench
from rtok.evaluation.loop import Evaluator, Trial
from rtok.evaluation.run import require_tokens, run_evaluation
from rtok.evaluation.segmentation import engine
from rtok.files import write_atomic

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.evaluation.segmentation.task import SegmentationTask

_IDENTITY = ("attack", "threat", "surrogate", "victim", "tokens", "n", "head_features")


def evaluate_segmentation(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = ("rtok", "eval-seg"),
) -> dict[str, Any]:
    """Measure the mIoU of the plain, random and robust victims, and write the run folder `config.out`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: the input is wrong, or mmsegmentation is not installed; nothing has been written then.
    """
    engine.start()
    require_tokens(config)
    return run_evaluation(
        config,
        open_task,
        resume=resume,
        overwrite=overwrite,
        command=command,
        figures=_report,
        framing=open_framing(config),
    )


def open_framing(config: Config) -> Framing:
    """Return how the config has pictures resized."""
    sizes = config.segmentation or SegmentationConfig()
    return Framing(sizes.mode, sizes.short_side, sizes.window, config.seed)


def open_task(bench: Bench) -> SegmentationTask:
    """Check every mask and the heads that there are.

    Raises:
        UserError: data without masks, masks that cannot be used, heads that do not fit.
    """
    engine.start()
    from rtok.evaluation.segmentation.heads import SegmentationHeads, check_masks
    from rtok.evaluation.segmentation.task import SegmentationTask

    config, source, framing = bench.config, bench.source, bench.transform
    assert config.head is not None and isinstance(source, MaskedFiles) and isinstance(framing, Framing)
    check_masks(source, config.data.split, enabled=bench.compute.is_main)
    stride = (config.segmentation or SegmentationConfig()).stride
    heads = SegmentationHeads.open(bench, source, framing, stride)
    return SegmentationTask(source, framing, heads, config.head.robust_victims)


def _report(bench: Bench, evaluator: Evaluator, rows: list[dict[str, Any]], out: Path) -> None:
    from rtok.reporting.figures.summary import summary_figures

    summary_figures(rows, out, "adversarial_miou")
    write_atomic(out / "per_class.csv", _per_class(rows))
    sizes = bench.config.segmentation or SegmentationConfig()
    trial = next((trial for trial in evaluator.trials if trial.threat == "transfer"), None)
    if trial is not None:
        for key in bench.source.keys[: sizes.pictures]:
            _draw(bench, evaluator, trial, key, out / "pictures")


def _per_class(rows: Sequence[dict[str, Any]]) -> str:
    """Render the IoU of every class that occurs, for every row of the results."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_IDENTITY, "class", "clean_iou", "adversarial_iou"])
    for row in rows:
        who = [row[key] for key in _IDENTITY]
        writer.writerows([*who, name, *ious] for name, ious in row["class_iou"].items())
    return text.getvalue()


def _draw(bench: Bench, evaluator: Evaluator, trial: Trial, key: str, folder: Path) -> None:
    """Draw what the plain victim and the first robust one see in a picture, before and after the attack."""
    from rtok.evaluation.segmentation.task import SegmentationTask
    from rtok.reporting.figures.segmentation import segmentation_maps

    task, batch = evaluator.task, bench.examples([key])
    if batch is None:  # it cannot be decoded
        return
    assert isinstance(task, SegmentationTask)
    images = batch.images.to(bench.compute.device)
    adversarial = evaluator.craft(trial.attempts[0], batch, images)
    robust = [victim for victim in evaluator.victims if victim.kind == "robust"]
    shown = {"plain": evaluator.victims[0], "robust": [v for v in robust if v.file == robust[0].file][-1]}
    with torch.no_grad():
        maps = {
            f"{name}, {state}": task.digest(evaluator.models[victim](seen), batch)[0].cpu().numpy()
            for name, victim in shown.items()
            for state, seen in (("clean", images), ("adversarial", adversarial))
        }
    folder.mkdir(exist_ok=True)
    segmentation_maps(
        batch.images[0],
        {"ground truth": task.labels(key).numpy(), **maps},
        task.source.class_names,
        task.source.palette,
        folder / file_name(key),
        title=f"{key}: attack {trial.name}, {shown['robust'].head} head on the robust victim",
    )
