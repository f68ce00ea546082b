"""eval-class: controls with heads of their own, and copies that an attacker fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.evaluation import evaluate_classification
from tests.evaluation.tasks.classification.helpers import config, features, load
from tests.evaluation.tasks.results import rows_of


def test_a_control_with_its_own_head_equals_a_direct_computation(settings: dict[str, Any], tmp_path: Path) -> None:
    """Digits: each draw's probe by scikit-learn, attacks by hand, and the table and differences that follow."""
    eps, std, l2 = 4 / 255, 0.5, 0.1
    tokens = RobustnessTokens.draw(3, 64, std=std, backbone="dinov2_vits14", config={"defense": {"init_std": std}})
    tokens.save(tmp_path / "tokens.safetensors")
    attack = {"eps": eps, "steps": 2, "init": "none", "quantize": "none"}
    data = {"name": "digits", "split": "test", "limit": 30, "workers": 0}
    head = {"type": "fit", "limit": 80, "l2": [l2]}
    changes = {"data": data, "attack": attack, "head": head, "threats": ["transfer", "adaptive"], "batch_size": 30}
    cfg = config(settings, **changes)
    results = evaluate_classification(cfg)
    backbone = load(settings["model"])

    def pictures(**part: Any) -> tuple[Tensor, Tensor]:
        source = open_source(cfg.data.model_copy(update=part), seed=0)
        (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=80, seed=0)
        assert batch.labels is not None
        return batch.images, batch.labels

    (fitted_on, targets), (images, labels) = pictures(split="train", limit=80), pictures()

    def victim(r: Tensor | None, head_on: Tensor | None) -> Callable[[Tensor], Tensor]:
        inputs = features(backbone, fitted_on, head_on).double().numpy()
        mean, scale = inputs.mean(0), inputs.std(0)
        probe = LogisticRegression(C=1 / (80 * l2), tol=1e-8, max_iter=10_000).fit((inputs - mean) / scale, targets)
        weight = torch.tensor(probe.coef_ / scale, dtype=torch.float32)
        bias = torch.tensor(probe.intercept_ - probe.coef_ @ (mean / scale), dtype=torch.float32)
        return lambda x: features(backbone, x, r) @ weight.T + bias

    def attacked(model: Callable[[Tensor], Tensor]) -> Tensor:
        x = images.clone()
        for _ in range(2):
            x.requires_grad_(True)
            loss = torch.nn.functional.cross_entropy(model(x), labels, reduction="sum")
            moved = x.detach() + eps / 4 * torch.autograd.grad(loss, x)[0].sign()
            x = (images + (moved - images).clamp(-eps, eps)).clamp(0, 1)
        return x

    def accuracy(model: Callable[[Tensor], Tensor], *tried: Tensor) -> float:
        """Of the worst of several attacks for each image."""
        right = torch.stack([model(x).argmax(1) == labels for x in tried])
        return float(right.all(0).float().mean())

    draws = [RobustnessTokens.draw(3, 64, "control", draw, std=std).values for draw in (0, 1)]
    transfer = attacked(victim(None, None))
    found: dict[tuple[str, str, str], float] = {}
    for name, members in (("random", draws), ("robust", [tokens.values])):
        for own in (False, True):
            models = [victim(r, r if own else None) for r in members]
            who = (name, "robust" if own else "plain")
            clean, moved, adaptive = (
                np.mean([accuracy(model, images) for model in models]),
                np.mean([accuracy(model, transfer) for model in models]),
                np.mean([accuracy(model, attacked(model), transfer) for model in models]),
            )
            for threat, expected in (("transfer", moved), ("adaptive", adaptive)):
                (row,) = rows_of(results, victim=name, head_features=who[1], threat=threat)
                # one image of 30 may lie on a border
                assert row["clean_accuracy"] == pytest.approx(clean, abs=0.034), (who, threat)
                assert row["adversarial_accuracy"] == pytest.approx(expected, abs=0.034), (who, threat)
                found[(*who, threat)] = row["adversarial_accuracy"]
    gains = [row for row in results["differences"] if row["baseline_victim"] == "random"]
    assert len(gains) == 4
    for row in gains:
        own, threat = row["head_features"], row["threat"]
        expected = found["robust", own, threat] - found["random", own, threat]
        assert row["adversarial_accuracy"] == pytest.approx(expected, abs=1e-9)
    assert len({round(value, 2) for value in found.values()}) > 4  # the cases differ, or they would test little


def test_a_copy_is_fitted_to_the_scores_through_the_public_head(
    settings: dict[str, Any], head_files: dict[str, str]
) -> None:
    """Also where the victim's own head is private: the copy goes through the head that the attacker has."""
    asking = {"queries_per_image": 1, "steps": 30}
    cfg = config(settings, head={"path": head_files}, threats=["extracted"], extracted=asking, control_draws=1)
    results = evaluate_classification(cfg)
    told = [(row["victim"], row["head_features"], row["queries"], row["start"]) for row in results["rows"]]
    own = [("random", "plain"), ("robust", "plain"), ("robust", "robust")]
    assert told == [(*who, 1, "each image") for who in own]
    backbone = load(settings["model"])
    (batch,) = evaluation_batches(open_source(cfg.data, seed=0), Transform("squash", (28, 28)), batch_size=9, seed=0)
    victim = RobustnessTokens.load(Path(settings["tokens"]))
    heads = {name: torch.load(path, weights_only=True) for name, path in head_files.items()}

    def scores(r: Tensor, head: str) -> Tensor:
        return (features(backbone, batch.images, r) @ heads[head]["weight"].T + heads[head]["bias"]).log_softmax(1)

    for number, head in ((2, "plain"), (3, "robust")):
        copy = RobustnessTokens.load(cfg.out / "extracted" / f"{number}-robust.safetensors").values
        answer = scores(victim.values, head)
        far, near = (
            float((answer.exp() * (answer - scores(r, "plain"))).sum(1).mean())
            for r in (victim.untrained(backbone, 0, "extracted").values, copy)
        )
        assert near < 0.7 * far, head
