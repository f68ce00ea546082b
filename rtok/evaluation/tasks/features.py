"""`rtok eval-features`: how far an attack moves a backbone's features, with and without tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from rtok.attacks.criteria import Axis, FeatureCriterion, cosine
from rtok.attacks.objective import Criterion, Model
from rtok.config.rules import checked
from rtok.evaluation.activations import write_activations
from rtok.evaluation.examples import attacked_examples, patch_cosines, transfer_trial
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.retrieval import Gallery
from rtok.evaluation.run import run_evaluation
from rtok.evaluation.task import Columns, Task, View
from rtok.evaluation.victims import Victim
from rtok.reporting.results import Results
from rtok.results.images import Images
from rtok.runs.run import Run, RunOptions
from rtok.setup import Given, Setup

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.config.schema import Config
    from rtok.data.loader import Batch

EXAMPLES = 3  # images in features.png
AXES: tuple[tuple[Axis, str], ...] = (("channel", ""), ("token", "_token"))


class FeatureTask(Task):
    """Compares features; the worse attack is the one with the lower `cosine_to_plain`.

    Attributes:
        gallery: the clean images among which neighbors are sought; empty before `prepare`, and without a setup.
    """

    command = "eval-features"
    objective = "features"
    worst_by = "cosine_to_plain"
    several_targets = True

    def __init__(self, setup: Setup | None = None) -> None:
        self._setup = setup
        self.gallery = Gallery([], torch.empty(0, 0))

    def prepare(self, run: Run) -> None:
        """Look at all clean images once."""
        if self._setup is not None:
            self.gallery = Gallery.of(self._setup)

    def model(self, victim: Victim) -> Model:
        """The victim's features (b, 1+P, D) or embeddings (b, E)."""
        return victim.features

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """Minus the cosine to the target's clean features, over the attack's axis."""
        return FeatureCriterion(target, attack.axis, attack.features)

    def measure(self, view: View) -> Columns:
        """The columns of results.json, per image.

        `fidelity`: victim(clean) to plain(clean). `cosine`: victim(adv) to victim(clean). `cosine_to_plain`:
        victim(adv) to plain(clean). `cosine_cls` and `cosine_cls_to_plain` are the latter two on the CLS token; `mse`
        compares like `cosine`. Columns over the token axis are NaN for embeddings, which have no tokens. `retrieval` is
        the share of the clean image's nearest others that victim(adv) finds, `retrieval_clean` that victim(clean) does.
        """
        columns: Columns = {}
        pairs = {
            "fidelity": (view.clean, view.plain_clean),
            "cosine": (view.adversarial, view.clean),
            "cosine_to_plain": (view.adversarial, view.plain_clean),
        }
        for axis, suffix in AXES:
            for name, (a, b) in pairs.items():
                absent = axis == "token" and a.ndim == 2
                columns[name + suffix] = a.new_full(a.shape[:1], float("nan")) if absent else cosine(a, b, axis)
        adversarial, clean, plain = (
            features if features.ndim == 2 else features[:, 0]
            for features in (view.adversarial, view.clean, view.plain_clean)
        )
        columns["cosine_cls"] = F.cosine_similarity(adversarial, clean, dim=-1)
        columns["cosine_cls_to_plain"] = F.cosine_similarity(adversarial, plain, dim=-1)
        columns["mse"] = (view.adversarial - view.clean).square().flatten(1).mean(1)
        columns["image_linf_255"] = view.image_linf_255
        keys = view.batch.keys
        columns["retrieval"] = self.gallery.retrieval(keys, view.plain_clean, view.adversarial)
        columns["retrieval_clean"] = self.gallery.retrieval(keys, view.plain_clean, view.clean)
        return columns

    def summarize(self, images: Images) -> dict[str, Any]:
        """Beside the columns what guessing would retrieve."""
        return {**super().summarize(images), "retrieval_chance": self.gallery.chance}

    def draw(self, setup: Setup, evaluator: Evaluator, rows: Sequence[dict[str, Any]], out: Path) -> None:
        """Draw the summary, the activations where they are asked for, and how far patches moved in a few images."""
        from rtok.reporting.figures.features import feature_movement
        from rtok.reporting.figures.pieces import write_pieces
        from rtok.reporting.figures.summary import summary_figures

        summary_figures(rows, out, self.command)
        if setup.config.analysis.activations:
            write_activations(setup, evaluator, out)
        trial, backbone = transfer_trial(evaluator), setup.backbone
        if trial is None or backbone.kind == "embedding":
            return
        first_of_group = dict(zip(reversed(setup.source.groups), reversed(setup.source.keys), strict=True))
        found = attacked_examples(setup, evaluator, trial, list(first_of_group.values())[-EXAMPLES:])
        if found is None:
            return
        shown = {victim.role: victim for victim in reversed(evaluator.victims)}  # the first of each
        with torch.no_grad():
            target = backbone(found.images)
            maps: dict[str, np.ndarray] = {
                role: patch_cosines(evaluator.models[shown[role]](found.adversarial), target, backbone.grid)
                for role in ("plain", "random", "robust")
                if role in shown
            }
        images = (found.images.cpu(), found.adversarial.cpu())
        feature_movement(*images, maps, out / "features.png", titles=found.batch.keys)
        write_pieces(*images, out, found.batch.keys, maps)


def evaluate_features(config: Config, given: Given | None = None, **options: Unpack[RunOptions]) -> Results:
    """Measure the features of the plain, random and robust victims, and write the run folder `config.out`.

    Args:
        given: what is in memory already, in place of what the config names.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    return run_evaluation(checked(config, "eval-features"), FeatureTask, given=given, **options)
