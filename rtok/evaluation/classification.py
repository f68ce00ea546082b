"""`rtok eval-class`: what tokens do to a classifier on the backbone, clean and under attack."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rtok.attacks.autoattack import AutoAttack
from rtok.attacks.objective import Criterion, LabelCriterion, Model
from rtok.config.attack_methods import AutoAttackConfig
from rtok.evaluation.bench import Bench
from rtok.evaluation.heads import PLAIN, Heads
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.run import require_tokens, run_evaluation
from rtok.evaluation.task import Columns, View, hidden_features
from rtok.evaluation.victims import Victim
from rtok.statistics import wilson

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.config.schema import Config
    from rtok.data.loader import Batch
    from rtok.models.backbone import Backbone
    from rtok.runs.folder import RunFolder

NO_LABEL = -100  # torch's own: every index from 0 on may be a class
# Columns of results.json that are shares of the images, and the per-image columns they are the means of.
SHARES = {
    "clean_accuracy": "clean_correct",
    "adversarial_accuracy": "adversarial_correct",
    "flipped": "flipped",
    "surrogate_success": "surrogate_fooled",
}
PAIRED = ("adversarial_accuracy", "clean_accuracy")  # the shares in which victims are compared
EXAMPLES = 4  # images in examples.png


@dataclass(frozen=True)
class ClassificationTask:
    """Compares predictions; attacks raise the cross-entropy of the right label."""

    heads: Heads
    robust_heads: tuple[str, ...]
    plain_head: str = PLAIN
    command: str = "eval-class"
    objective: Literal["labels"] = "labels"
    severity: str = "adversarial_correct"
    paired: Mapping[str, str] = field(default_factory=lambda: {name: SHARES[name] for name in PAIRED})
    several_targets: bool = False
    wants_probe: bool = True

    @classmethod
    def open(cls, bench: Bench) -> ClassificationTask:
        """Read and check the heads.

        Raises:
            UserError: a head does not fit the backbone or the data, or an attack the number of classes.
        """
        heads = Heads.open(bench)
        for settings in bench.config.attacks:
            if isinstance(settings, AutoAttackConfig):
                AutoAttack(settings).check(len(heads.class_names))
        return cls(heads, heads.settings.robust_victims)

    def model(self, victim: Victim) -> Model:
        """The victim with its head: images to logits (b, K)."""
        return self.heads.of_victim(victim)

    def surrogate(self, backbone: Backbone, tokens: Tensor | None) -> Model:
        """A surrogate with the head that the config gives it."""
        return self.heads.of_surrogate(backbone, tokens)

    def hidden(self, backbone: Backbone, tokens: Tensor | None, depth: float) -> Model:
        """Images to the features (b, 1+P, D) inside a backbone."""
        return hidden_features(backbone, tokens, depth)

    def prepare(self, folder: RunFolder) -> None:
        """Fit or choose the heads that no file names."""
        self.heads.prepare(folder)

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """The loss of the labels that the attack names."""
        return LabelCriterion(_labels(batch, target), ignore_index=NO_LABEL, loss=attack.loss)

    def digest(self, output: Tensor, batch: Batch) -> Tensor:
        """All logits: they are small."""
        return output

    def measure(self, view: View) -> Columns:
        """The label, the predictions with their confidences, and what follows from them, as 0 or 1.

        `surrogate_fooled`: the surrogate was right about the clean image and wrong about the adversarial one;
        NaN where there was nothing to fool, or where the surrogate is not one fixed model.
        """
        labels = _labels(view.batch, view.clean)
        columns: Columns = {"label": labels}
        predictions = []
        for name, logits in (("clean", view.clean), ("adversarial", view.adversarial)):
            confidence, prediction = logits.float().softmax(-1).max(-1)
            columns[f"{name}_prediction"] = prediction
            columns[f"{name}_confidence"] = confidence
            columns[f"{name}_correct"] = (prediction == labels).float()
            predictions.append(prediction)
        columns["flipped"] = (predictions[0] != predictions[1]).float()
        fooled = torch.full(labels.shape, torch.nan, device=labels.device)
        if view.probe_clean is not None and view.probe_adversarial is not None:
            right = view.probe_clean.argmax(-1) == labels
            fooled[right] = (view.probe_adversarial.argmax(-1) != labels)[right].float()
        columns["surrogate_fooled"] = fooled
        columns["image_linf_255"] = (view.adversarial_images - view.images).abs().flatten(1).amax(1) * 255
        return columns

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Shares with Wilson intervals; null where there is nothing to divide by.

        `surrogate_success` is over the images that the surrogate classified rightly, `accuracy_on_success`
        over those among them that fooled it. Rows of the control are means over its draws: their interval is
        that of one victim with the mean share.
        """
        summary: dict[str, Any] = {}
        intervals: dict[str, list[float] | None] = {}
        shares = {name: [row[column] for row in rows] for name, column in SHARES.items()}
        shares["accuracy_on_success"] = [r["adversarial_correct"] for r in rows if r["surrogate_fooled"] == 1]
        for name, values in shares.items():
            known = [value for value in values if value is not None]
            interval = wilson(sum(known), len(known))
            summary[name] = statistics.fmean(known) if known else None
            intervals[name] = None if interval is None else list(interval)
        summary["image_linf_255"] = statistics.fmean(row["image_linf_255"] for row in rows)
        return {**summary, "ci95": intervals}


def evaluate_classification(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = ("rtok", "eval-class"),
) -> dict[str, Any]:
    """Measure the accuracy of the plain, random and robust victims, and write the run folder `config.out`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    require_tokens(config)
    return run_evaluation(
        config,
        ClassificationTask.open,
        resume=resume,
        overwrite=overwrite,
        command=command,
        figures=_draw,
    )


def _labels(batch: Batch, like: Tensor) -> Tensor:
    assert batch.labels is not None
    return batch.labels.to(like.device)


def _draw(bench: Bench, evaluator: Evaluator, rows: list[dict[str, Any]], out: Path) -> None:
    from rtok.reporting.figures.examples import adversarial_examples
    from rtok.reporting.figures.summary import summary_figures

    summary_figures(rows, out, "adversarial_accuracy")
    trial, plain, robust = evaluator.trials[0], evaluator.victims[0], evaluator.victims[-1]
    batch = bench.examples(bench.source.keys[:EXAMPLES])
    if batch is None:
        return
    images = batch.images.to(bench.compute.device)
    adversarial = evaluator.craft(trial.attempts[0], batch, images)
    names = bench.source.class_names or ()
    with torch.no_grad():
        seen = [evaluator.models[victim](adversarial).argmax(-1).tolist() for victim in (plain, robust)]
    titles = [f"plain: {names[p]}, robust: {names[r]}" for p, r in zip(*seen, strict=True)]
    adversarial_examples(images.cpu(), adversarial.cpu(), out / "examples.png", titles)
