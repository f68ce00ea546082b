"""eval-features: numbers against independent references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.evaluation import evaluate_features
from rtok.models import load_backbone
from tests.evaluation.tasks.features.helpers import config
from tests.evaluation.tasks.results import per_image, rows_of


def test_numbers_equal_a_direct_computation(settings: dict[str, Any], token_file: Path) -> None:
    cfg = config(settings, token_file, threats=["transfer"])
    results = evaluate_features(cfg)
    backbone = load_backbone("dinov2_vits14", weights=cfg.model.weights, image_size=28)
    source = open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=7, seed=0)
    plain = backbone(batch.images)
    pgd = PGD(eps=8 / 255, step=1e-2, steps=3, units="normalized", init="gaussian", mse_weight=1.0, quantize="floor")
    objective = Objective(FixedSurrogate(backbone), FeatureCriterion(plain, "token"))
    adversarial = craft(pgd, batch.images, objective, Context(batch.keys, std=backbone.std)).images
    r = RobustnessTokens.load(token_file).values
    clean_r, adversarial_r = backbone(batch.images, r), backbone(adversarial, r)

    def cos(a: torch.Tensor, b: torch.Tensor, dim: int) -> float:
        return float(F.cosine_similarity(a, b, dim=dim).mean())

    expected = {
        "fidelity": cos(clean_r, plain, -1),
        "cosine": cos(adversarial_r, clean_r, -1),
        "cosine_to_plain": cos(adversarial_r, plain, -1),
        "fidelity_token": cos(clean_r, plain, 1),
        "cosine_token": cos(adversarial_r, clean_r, 1),
        "cosine_to_plain_token": cos(adversarial_r, plain, 1),
        "cosine_cls": cos(adversarial_r[:, 0], clean_r[:, 0], -1),
        "cosine_cls_to_plain": cos(adversarial_r[:, 0], plain[:, 0], -1),
        "mse": float((adversarial_r - clean_r).square().mean()),
        "image_linf_255": float((adversarial - batch.images).abs().amax((1, 2, 3)).mean()) * 255,
    }
    (row,) = rows_of(results, victim="robust")
    for name, value in expected.items():
        # Batches of 4 and 7 may differ in the last bits of a sign step: hence not 1e-6.
        assert row[name] == pytest.approx(value, abs=2e-3), name
    for name in ("cosine_to_plain", "cosine_cls_to_plain"):
        assert row["ci95"][name][0] < row[name] < row["ci95"][name][1]
    (row,) = rows_of(results, victim="plain")
    assert row["fidelity"] == pytest.approx(1, abs=1e-6) and row["ci95"]["fidelity"] is None  # by definition
    assert row["cosine_to_plain"] == row["cosine"] == pytest.approx(cos(backbone(adversarial), plain, -1), abs=2e-3)


def test_adaptive_is_the_worse_of_its_two_targets(
    settings: dict[str, Any], token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    from rtok.evaluation.tasks.features import FeatureTask

    measure = FeatureTask.measure

    def spy(self: FeatureTask, view: Any) -> dict[str, torch.Tensor]:
        columns = measure(self, view)
        seen.append(columns)
        return columns

    monkeypatch.setattr(FeatureTask, "measure", spy)
    cfg = config(settings, token_file, threats=["adaptive"], batch_size=7)
    evaluate_features(cfg)
    away_from_plain, away_from_victim, transferred = (columns["cosine_to_plain"] for columns in seen[-3:])
    assert not torch.allclose(away_from_plain, away_from_victim)  # the control came first
    rows = [row for row in per_image(cfg.out) if row["victim"] == "robust"]
    alone = torch.tensor([float(row["cosine_to_plain_alone"]) for row in rows])
    torch.testing.assert_close(alone, torch.minimum(away_from_plain, away_from_victim))
    found = torch.tensor([float(row["cosine_to_plain"]) for row in rows])
    torch.testing.assert_close(found, torch.minimum(alone, transferred))


def test_the_control_is_the_mean_over_its_draws(settings: dict[str, Any], token_file: Path) -> None:
    cfg = config(settings, token_file, threats=["transfer"], control_draws=3)
    results = evaluate_features(cfg)
    rows = [row for row in per_image(cfg.out) if row["victim"] == "random"]
    means = [sum(float(row["cosine_to_plain"]) for row in rows if row["draw"] == str(draw)) / 7 for draw in range(3)]
    assert len({round(mean, 6) for mean in means}) == 3
    assert rows_of(results, victim="random")[0]["cosine_to_plain"] == pytest.approx(sum(means) / 3, abs=1e-9)


def test_another_surrogate_is_possible(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    surrogate = {"tokens": str(token_file)}
    results = evaluate_features(config(settings, token_file, threats=["transfer"], surrogate=surrogate))
    assert results["rows"][0]["surrogate"] == f"dinov2_vits14 + {token_file}"


def test_a_surrogate_with_tokens_is_pulled_away_from_its_own_features_if_asked(
    settings: dict[str, Any], token_file: Path, tmp_path: Path
) -> None:
    """What the attacked model with tokens keeps of its own clean features, by the target of the attack."""
    kept = {}
    for target in ("plain", "victim"):
        changes = {
            "surrogate": {"tokens": str(token_file)},
            "attack": {"preset": "standard", "steps": 3, "target": target},
        }
        results = evaluate_features(
            config(settings, token_file, threats=["transfer"], out=tmp_path / target, **changes)
        )
        kept[target] = rows_of(results, victim="robust")[0]["cosine"]
    assert kept["victim"] < kept["plain"] - 1e-3


def test_attacks_may_be_a_list(settings: dict[str, Any], token_file: Path) -> None:
    attacks = [{"preset": "paper", "steps": 2, "quantize": "round"}, {"preset": "standard", "steps": 2}]
    results = evaluate_features(config(settings, token_file, threats=["transfer"], attack=attacks))
    assert [row["units"] for row in results["rows"]] == ["normalized"] * 3 + ["pixel"] * 3
