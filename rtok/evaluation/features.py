"""`rtok eval-features`: how far an attack moves a backbone's features, with and without tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.attacks.objective import Axis, Criterion, FeatureCriterion, Model, cosine
from rtok.evaluation.activations import write_activations
from rtok.evaluation.bench import Bench
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.run import require_tokens, run_evaluation
from rtok.evaluation.task import Columns, View, hidden_features
from rtok.evaluation.victims import Victim
from rtok.results.columns import COLUMNS
from rtok.results.summary import means

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.config.schema import Config
    from rtok.data.loader import Batch
    from rtok.models.backbone import Backbone
    from rtok.runs.folder import RunFolder

EXAMPLES = 3  # images in features.png
AXES: tuple[tuple[Axis, str], ...] = (("channel", ""), ("token", "_token"))


@dataclass(frozen=True)
class FeatureTask:
    """Compares features; the worse attack is the one with the lower `cosine_to_plain`."""

    backbone: Backbone
    command: str = "eval-features"
    objective: Literal["features"] = "features"
    plain_head: None = None
    robust_heads: tuple[None] = (None,)
    severity: str = "cosine_to_plain"
    several_targets: bool = True
    wants_probe: bool = False

    def model(self, victim: Victim) -> Model:
        """The backbone with the victim's tokens: images to features (b, 1+P, D) or embeddings (b, E)."""
        return self.surrogate(self.backbone, victim.tokens)

    def surrogate(self, backbone: Backbone, tokens: Tensor | None) -> Model:
        """A backbone with or without tokens."""
        return backbone if tokens is None else partial(backbone, tokens=tokens)

    def hidden(self, backbone: Backbone, tokens: Tensor | None, depth: float) -> Model:
        """Images to the features (b, 1+P, D) inside a backbone."""
        return hidden_features(backbone, tokens, depth)

    def prepare(self, folder: RunFolder) -> None:
        """Features need nothing more."""

    def criterion(self, attack: AttackConfig, batch: Batch, target: Tensor) -> Criterion:
        """Minus the cosine to the target's clean features, over the attack's axis."""
        return FeatureCriterion(target, attack.axis)

    def digest(self, output: Tensor, batch: Batch) -> Tensor:
        """All of it."""
        return output

    def measure(self, view: View) -> Columns:
        """The columns of results.json, per image.

        `fidelity`: victim(clean) to plain(clean). `cosine`: victim(adv) to victim(clean). `cosine_to_plain`:
        victim(adv) to plain(clean). `cosine_cls` and `cosine_cls_to_plain` are the latter two on the CLS token; `mse`
        compares like `cosine`. Columns over the token axis are NaN for embeddings, which have no tokens.
        """
        columns: Columns = {}
        for axis, suffix in AXES:
            pairs = {
                "fidelity": (view.clean, view.plain_clean),
                "cosine": (view.adversarial, view.clean),
                "cosine_to_plain": (view.adversarial, view.plain_clean),
            }
            for name, (a, b) in pairs.items():
                absent = axis == "token" and a.ndim == 2
                columns[name + suffix] = (
                    a.new_full(a.shape[:1], float("nan")) if absent else cosine(a, b, axis)
                )
        adversarial, clean, plain = (
            features if features.ndim == 2 else features[:, 0]
            for features in (view.adversarial, view.clean, view.plain_clean)
        )
        columns["cosine_cls"] = F.cosine_similarity(adversarial, clean, dim=-1)
        columns["cosine_cls_to_plain"] = F.cosine_similarity(adversarial, plain, dim=-1)
        columns["mse"] = (view.adversarial - view.clean).square().flatten(1).mean(1)
        columns["image_linf_255"] = (view.adversarial_images - view.images).abs().flatten(1).amax(1) * 255
        return columns

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Means over images, with 95 % intervals clustered by `group`; null where a column does not apply."""
        summary, intervals = means(rows, COLUMNS[self.command])
        return {**summary, "ci95": intervals}


def evaluate_features(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = ("rtok", "eval-features"),
) -> dict[str, Any]:
    """Measure the features of the plain, random and robust victims, and write the run folder `config.out`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    require_tokens(config)
    return run_evaluation(
        config,
        lambda bench: FeatureTask(bench.backbone),
        resume=resume,
        overwrite=overwrite,
        command=command,
        figures=_draw,
    )


def _draw(bench: Bench, evaluator: Evaluator, rows: list[dict[str, Any]], out: Path) -> None:
    from rtok.reporting.figures.features import feature_movement
    from rtok.reporting.figures.summary import summary_figures

    summary_figures(rows, out, evaluator.task.command)
    if bench.config.analysis.activations:
        write_activations(bench, evaluator, out)
    trial = next((trial for trial in evaluator.trials if trial.threat == "transfer"), None)
    if trial is None or bench.backbone.kind == "embedding":
        return
    first_of_group = dict(zip(reversed(bench.source.groups), reversed(bench.source.keys), strict=True))
    batch = bench.examples(list(first_of_group.values())[-EXAMPLES:])
    if batch is None:
        return
    images = batch.images.to(bench.compute.device)
    adversarial = evaluator.craft(trial.attempts[0], batch, images)
    shown = {victim.kind: victim for victim in reversed(evaluator.victims)}  # the first of each kind
    with torch.no_grad():
        target = bench.backbone(images)
        maps: dict[str, np.ndarray] = {
            kind: _patch_cosines(evaluator.models[shown[kind]](adversarial), target, bench.backbone.grid)
            for kind in ("plain", "random", "robust")
            if kind in shown
        }
    feature_movement(images.cpu(), adversarial.cpu(), maps, out / "features.png", titles=batch.keys)


def _patch_cosines(features: Tensor, target: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Cosine of each patch's features to its target, as maps (b, gh, gw)."""
    similarity = F.cosine_similarity(features[:, 1:], target[:, 1:], dim=-1)
    return similarity.unflatten(1, grid).float().cpu().numpy()
