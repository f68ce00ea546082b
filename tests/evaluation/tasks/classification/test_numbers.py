"""eval-class: numbers against a direct computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rtok.attacks import PGD, Context, FixedSurrogate, LabelCriterion, Objective, craft
from rtok.attacks.square import Square
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification
from rtok.statistics import share_interval
from tests.evaluation.tasks.classification.helpers import ATTACK, AUTO, config, features, load
from tests.evaluation.tasks.results import per_image, rows_of


def test_attacks_are_checked_and_victims_compared(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    settings |= {"sanity": {"images": 3, "queries": 30}, "attack": {**ATTACK, "steps": 20}}
    cfg = config(settings, head={"path": head_files}, threats=["transfer", "adaptive"])
    results = evaluate_classification(cfg)
    checks = results["sanity"]["checks"]
    assert results["sanity"]["verdict"] == "sound", [check for check in checks if not check["passed"]]
    # three of the plain model, and five of the robust victim with each of its heads
    who = [(check["victim"], check["head_features"]) for check in checks]
    assert who == [("plain", "plain")] * 3 + [("robust", "plain")] * 5 + [("robust", "robust")] * 5
    transfer = {row["victim"]: row for row in rows_of(results, threat="transfer", head_features="plain")}
    compared = results["differences"][:2]
    for row, baseline in zip(compared, ("random", "plain"), strict=True):
        assert (row["baseline_victim"], row["head_features"]) == (baseline, "plain")
        for name in ("clean_accuracy", "adversarial_accuracy"):
            gain = transfer["robust"][name] - transfer[baseline][name]
            assert row[name] == pytest.approx(gain, abs=1e-9)
            low, high = row["ci95"][name]
            assert low <= row[name] <= high


def test_queries_use_the_margin_of_the_logits(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    settings |= {"query": {"queries": [60], "starts": ["cold"]}, "threats": ["query"], "batch_size": 9}
    idle = {"preset": "standard", "eps": "40/255", "init": "none", "step": 1e-9}  # so that transfer finds nothing
    cfg = config(settings, head={"path": head_files}, attack=idle)
    results = evaluate_classification(cfg)
    rows = rows_of(results, threat="query")
    told = [(row["victim"], row["head_features"]) for row in rows]
    assert told == [("random", "plain"), ("robust", "plain"), ("robust", "robust")]
    assert all(row["adversarial_accuracy"] <= row["clean_accuracy"] for row in rows)
    backbone, source = load(settings["model"]), open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=9, seed=0)
    tokens = RobustnessTokens.load(Path(settings["tokens"])).values
    head = torch.load(head_files["plain"], weights_only=True)

    def model(x: Tensor) -> Tensor:
        return features(backbone, x, tokens) @ head["weight"].T + head["bias"]

    assert batch.labels is not None
    criterion = LabelCriterion(batch.labels, ignore_index=-100, loss="margin")
    search = Square(eps=40 / 255, queries=60)
    found = craft(search, batch.images, Objective(FixedSurrogate(model), criterion), Context(batch.keys)).images
    public = [row for row in per_image(cfg.out) if (row["victim"], row["head_features"]) == ("robust", "plain")]
    sure = torch.tensor([float(row["adversarial_confidence"]) for row in public])
    own = torch.tensor([row["worst_from"] == "query" for row in public])  # rather than what transfer found
    expected = model(found).softmax(1).amax(1)
    assert own.any()
    torch.testing.assert_close(sure[own], expected[own], atol=1e-3, rtol=0)
    assert (expected < model(batch.images).softmax(1).amax(1) - 0.01).any()


def test_numbers_equal_a_direct_computation(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    cfg = config(settings, threats=["transfer", "adaptive"], head={"path": head_files}, batch_size=9)
    results = evaluate_classification(cfg)
    backbone = load(settings["model"])
    source = open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=9, seed=0)
    tokens = RobustnessTokens.load(Path(settings["tokens"])).values
    files = {name: torch.load(path, weights_only=True) for name, path in head_files.items()}

    def model(head: str, r: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        return lambda x: features(backbone, x, r) @ files[head]["weight"].T + files[head]["bias"]

    def attacked(surrogate: Callable[[Tensor], Tensor]) -> Tensor:
        objective = Objective(FixedSurrogate(surrogate), LabelCriterion(batch.labels, ignore_index=-100))
        return craft(PGD(eps=12 / 255, steps=3), batch.images, objective, Context(batch.keys)).images

    victims = {("plain", "plain"): model("plain")}
    victims |= {("robust", head): model(head, tokens) for head in files}
    transfer = attacked(model("plain"))
    right = model("plain")(batch.images).argmax(1) == batch.labels
    fooled = right & (model("plain")(transfer).argmax(1) != batch.labels)
    for (victim, head), predict in victims.items():
        for threat, adversarial in (("transfer", transfer), ("adaptive", attacked(predict))):
            if (threat, victim) == ("adaptive", "plain"):
                continue
            (row,) = rows_of(results, victim=victim, head_features=head, threat=threat)
            clean, after = predict(batch.images).argmax(1), predict(adversarial).argmax(1)
            assert row["clean_accuracy"] == pytest.approx(float((clean == batch.labels).float().mean()))
            assert row["adversarial_accuracy"] == pytest.approx(float((after == batch.labels).float().mean()))
            assert row["flipped"] == pytest.approx(float((clean != after).float().mean()))
            assert row["ci95"]["flipped"] == pytest.approx(share_interval((clean != after).float(), range(9)))
            if threat == "transfer":
                assert row["surrogate_success"] == pytest.approx(float(fooled.sum() / right.sum()))
                on_success = (after == batch.labels)[fooled]
                assert row["accuracy_on_success"] == pytest.approx(float(on_success.float().mean()))
    assert 0 < fooled.sum() < 9  # else the last column would not have been tested
    rows = [row for row in per_image(cfg.out) if row["victim"] == "robust" and row["threat"] == "transfer"]
    for head in files:
        found = [row for row in rows if row["head_features"] == head]
        for name, images in (("clean", batch.images), ("adversarial", transfer)):
            confidence, prediction = model(head, tokens)(images).softmax(1).max(1)
            assert [int(row[f"{name}_prediction"]) for row in found] == prediction.tolist()
            assert [float(row[f"{name}_confidence"]) for row in found] == pytest.approx(confidence.tolist(), abs=1e-4)
        assert [int(row["label"]) for row in found] == batch.labels.tolist()


def test_whether_an_attack_on_hidden_features_fooled_its_surrogate_is_told_by_the_output(
    settings: dict[str, Any],
) -> None:
    """The surrogate is a victim too, whose predictions are in the per-image file."""
    hidden = {**ATTACK, "layer": 0.5}
    results = evaluate_classification(config(settings, attack=hidden, threats=["transfer", "adaptive"]))
    for threat in ("transfer", "adaptive"):
        (row,) = rows_of(results, threat=threat, victim="robust", head_features="plain")
        rows = [
            row
            for row in per_image(Path(settings["out"]))
            if row["threat"] == threat
            and row["victim"] == ("plain" if threat == "transfer" else "robust")
            and row["head_features"] == "plain"
        ]
        right = [row for row in rows if row["clean_prediction"] == row["label"]]
        fooled = sum(row["adversarial_prediction"] != row["label"] for row in right)
        assert len(right) > 0 and row["surrogate_success"] == pytest.approx(fooled / len(right))


def test_class_255_is_a_class() -> None:
    """255 marks pixels without label in segmentation; as a class index it must be attacked like any other."""
    from rtok.config.attack_methods import PGDConfig
    from rtok.evaluation.tasks.classification import ClassificationTask

    task = ClassificationTask(
        SimpleNamespace(split=None, settings=SimpleNamespace(robust_victims=(), control_victims=()))
    )  # type: ignore[arg-type]
    batch = type("Batch", (), {"labels": torch.tensor([255])})
    criterion = task.criterion(PGDConfig(), batch, torch.zeros(1, 1000))  # type: ignore[arg-type]
    assert criterion(torch.zeros(1, 1000), slice(0, 1)).item() == pytest.approx(np.log(1000))


def test_the_control_is_the_mean_over_its_draws(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    cfg = config(settings, threats=["transfer"], control_draws=3, head={"path": head_files})
    results = evaluate_classification(cfg)
    rows = [row for row in per_image(cfg.out) if row["victim"] == "random"]
    hits = [float(row["clean_correct"]) for row in rows]
    (row,) = rows_of(results, victim="random")
    assert len(hits) == 27 and row["clean_accuracy"] == pytest.approx(sum(hits) / 27)
    by_image = np.array(hits).reshape(9, 3)
    assert row["ci95"]["clean_accuracy"] == pytest.approx(share_interval(by_image, range(9)))


def test_autoattack(settings: dict[str, Any], head_files: dict[str, str]) -> None:
    cfg = config(settings, attack=AUTO, head={"path": head_files}, threats=["transfer"])
    results = evaluate_classification(cfg)
    (plain,) = rows_of(results, victim="plain")
    assert (plain["steps"], plain["restarts"], plain["eps"]) == (None, None, pytest.approx(12 / 255))
    assert plain["surrogate_success"] > 0.5 and plain["image_linf_255"] <= 12 + 1e-4
    assert plain["accuracy_on_success"] == 0
    ((attack, caution),) = results["cautions"].items()
    assert attack == plain["attack"] and "autoattack is no transfer attack" in caution
    too_few = {"preset": "autoattack", "version": "custom", "attacks": ["apgd-t"]}
    with pytest.raises(UserError, match="apgd-t needs at least 4 classes, and the head has 3"):
        evaluate_classification(config(settings, attack=too_few, head={"path": head_files}, out="not-there"))
    assert not Path("not-there").exists()
