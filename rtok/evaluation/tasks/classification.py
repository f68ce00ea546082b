"""`rtok eval-class`: what tokens do to a classifier on the backbone, clean and under attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from typing_extensions import Unpack

from rtok.attacks.autoattack import AutoAttack
from rtok.attacks.criteria import LabelCriterion
from rtok.attacks.objective import Criterion, Model
from rtok.config.attack_methods import AutoAttackConfig
from rtok.config.rules import checked
from rtok.evaluation.examples import attacked_examples
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.run import run_evaluation
from rtok.evaluation.task import Columns, Task, View
from rtok.evaluation.tasks.headed import headed
from rtok.evaluation.victims import Victim
from rtok.heads.classifiers import Classifiers
from rtok.heads.store import PLAIN
from rtok.reporting.results import Results
from rtok.runs.run import Run, RunOptions
from rtok.setup import Given, Setup

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig, LabelLoss
    from rtok.config.schema import Config
    from rtok.data.loader import Batch

NO_LABEL = -100  # torch's own: every index from 0 on may be a class
EXAMPLES = 4  # images in examples.png


class ClassificationTask(Task):
    """Compares predictions; attacks raise the cross-entropy of the right label."""

    command = "eval-class"
    worst_by = "adversarial_correct"
    wants_surrogate = True
    plain_head = PLAIN

    def __init__(self, heads: Classifiers) -> None:
        self.heads = heads
        self.robust_heads, self.control_heads = heads.settings.robust_victims, heads.settings.control_victims
        self.split = heads.split

    @classmethod
    def open(cls, setup: Setup) -> ClassificationTask:
        """Read and check the heads.

        Raises:
            UserError: a head does not fit the backbone or the data, or an attack the number of classes.
        """
        heads = Classifiers(setup)
        for settings in setup.config.attacks:
            if isinstance(settings, AutoAttackConfig):
                AutoAttack(settings).check(len(heads.class_names))
        return cls(heads)

    def model(self, victim: Victim) -> Model:
        """The victim with its head: images to logits (b, K)."""
        return headed(self.heads, victim)

    def prepare(self, run: Run) -> None:
        """Fit or choose the heads that no file names."""
        self.heads.prepare(run)

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """The loss of the labels that the attack names."""
        return LabelCriterion(_labels(batch, target), ignore_index=NO_LABEL, loss=cast("LabelLoss", attack.loss))

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
        if view.surrogate_clean is not None and view.surrogate_adversarial is not None:
            right = view.surrogate_clean.argmax(-1) == labels
            fooled[right] = (view.surrogate_adversarial.argmax(-1) != labels)[right].float()
        columns["surrogate_fooled"] = fooled
        columns["image_linf_255"] = view.image_linf_255
        return columns

    def left(self, view: View) -> Tensor:
        """The lead of the right class's probability over the next, 0 where another class leads."""
        probabilities = view.adversarial.float().softmax(-1)
        labels = _labels(view.batch, probabilities)[:, None]
        right, wrong = probabilities.gather(1, labels), probabilities.scatter(1, labels, 0.0)
        return (right[:, 0] - wrong.amax(1)).clamp(min=0)

    def draw(self, setup: Setup, evaluator: Evaluator, rows: Sequence[dict[str, Any]], out: Path) -> None:
        """Draw the summary, and a few attacked images with what is made of them."""
        from rtok.reporting.figures.examples import adversarial_examples
        from rtok.reporting.figures.pieces import write_pieces
        from rtok.reporting.figures.summary import summary_figures

        summary_figures(rows, out, self.command)
        trial, keys = evaluator.trials[0], setup.source.keys[:EXAMPLES]
        found = attacked_examples(setup, evaluator, trial, keys)
        if found is None:
            return
        names = setup.source.class_names or ()
        shown = dict.fromkeys((evaluator.victims[0], evaluator.victims[-1]))  # one where there is no defense
        with torch.no_grad():
            seen = [evaluator.models[victim](found.adversarial).argmax(-1).tolist() for victim in shown]
        titles = [
            ", ".join(f"{victim.role}: {names[label]}" for victim, label in zip(shown, labels, strict=True))
            for labels in zip(*seen, strict=True)
        ]
        images = (found.images.cpu(), found.adversarial.cpu())
        adversarial_examples(*images, out / "examples.png", titles)
        write_pieces(*images, out, [f"{key}; {seen}" for key, seen in zip(found.batch.keys, titles, strict=True)])


def evaluate_classification(config: Config, given: Given | None = None, **options: Unpack[RunOptions]) -> Results:
    """Measure the accuracy of the plain, random and robust victims, and write the run folder `config.out`.

    Args:
        given: what is in memory already, in place of what the config names.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    return run_evaluation(checked(config, "eval-class"), ClassificationTask.open, given=given, **options)


def _labels(batch: Batch, like: Tensor) -> Tensor:
    assert batch.labels is not None
    return batch.labels.to(like.device)
