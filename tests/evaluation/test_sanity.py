"""The checks of the attacks: a sound defence passes, a masked gradient and a weak attack are flagged."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.attacks import PGD, Perturbed
from rtok.config.schema import Config
from rtok.evaluation import evaluate_features
from rtok.evaluation.sanity import adaptive_in_results
from rtok.evaluation.tasks.features import FeatureTask
from rtok.evaluation.victims import Victim

CHECKS = [
    "an unbounded radius breaks the plain model",
    "more steps are stronger",
    "a larger radius is stronger",
    "gradients do not vanish",
    "random search of equal cost is weaker",
    "transfer is not stronger than adaptive",
]


def checked(small: dict[str, Any], **changes: Any) -> dict[str, Any]:
    config = Config.model_validate({**small, "sanity": {"images": 3}, "threats": ["transfer"], **changes})
    return dict(evaluate_features(config)["sanity"])


def test_a_sound_defence_passes(small: dict[str, Any]) -> None:
    found = checked(small)
    assert found["verdict"] == "sound" and found["images"] == 3
    assert [check["check"] for check in found["checks"]] == CHECKS
    assert [check.get("defense") for check in found["checks"]] == [None] + [small["tokens"]] * 5


def test_a_rounding_that_kills_gradients_is_flagged(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(self: FeatureTask, victim: Victim) -> Callable[[Tensor], Tensor]:
        model = victim.features
        return model if victim.defense is None else lambda images: model((images * 64).round() / 64)

    monkeypatch.setattr(FeatureTask, "model", rounded)
    found = checked(small)
    assert found["verdict"] == "suspicious"
    passed = {check["check"]: check["passed"] for check in found["checks"]}
    assert passed["an unbounded radius breaks the plain model"]  # it has no rounding
    for name in ("more steps are stronger", "gradients do not vanish", "transfer is not stronger than adaptive"):
        assert not passed[name], name


def test_gradients_that_are_nearly_zero_are_flagged(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient scaled down by a million: sign steps do not care, an L2 attack or a sum with another loss would."""

    def faint(self: FeatureTask, victim: Victim) -> Callable[[Tensor], Tensor]:
        model = victim.features
        if victim.defense is None:
            return model
        return lambda images: model(images.detach() + 1e-6 * (images - images.detach()))

    monkeypatch.setattr(FeatureTask, "model", faint)
    failed = [check["check"] for check in checked(small)["checks"] if not check["passed"]]
    assert failed == ["gradients do not vanish"]


def test_an_attack_that_does_nothing_is_flagged(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGD, "run", lambda self, images, *_, **__: Perturbed(images, images[:, 0, 0, 0]))
    passed = {check["check"]: check["passed"] for check in checked(small)["checks"]}
    for name in ("an unbounded radius breaks the plain model", "more steps are stronger"):
        assert not passed[name], name


def test_checks_can_be_switched_off(small: dict[str, Any]) -> None:
    assert evaluate_features(Config.model_validate({**small, "threats": ["transfer"]}))["sanity"] is None


def result_rows(adaptive: list[float], transfer: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "attack": "paper",
            "victim": "robust",
            "threat": threat,
            "defense": "a",
            "head_features": None,
            "image": str(i),
            "group": str(i),
            "severity": value,
        }
        for threat, values in (("transfer", transfer), ("adaptive", adaptive))
        for i, value in enumerate(values)
    ]


def test_an_adaptive_attack_that_is_weaker_than_transfer_is_flagged() -> None:
    (check,) = adaptive_in_results(result_rows([0.9, 0.8, 0.9], [0.5, 0.4, 0.6]), "severity")
    assert not check["passed"] and check["values"]["difference"] == pytest.approx(1.1 / 3)
    (check,) = adaptive_in_results(result_rows([0.1, 0.2, 0.3], [0.5, 0.4, 0.6]), "severity")
    assert check["passed"]
    (check,) = adaptive_in_results(result_rows([0.1, 0.9, 0.41], [0.5, 0.4, 0.5]), "severity")
    assert check["passed"]  # a little weaker, but not beyond chance
    assert adaptive_in_results(result_rows([], [0.5, 0.4, 0.6]), "severity") == []


def test_the_results_hold_what_per_image_rows_say(small: dict[str, Any]) -> None:
    config = Config.model_validate({**small, "sanity": {"images": 2}, "threats": ["transfer", "adaptive"]})
    check = evaluate_features(config)["sanity"]["checks"][-1]
    with (config.out / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["victim"] == "robust"]
    by_threat = {
        threat: torch.tensor([float(row["cosine_to_plain"]) for row in rows if row["threat"] == threat])
        for threat in ("adaptive", "transfer")
    }
    difference = float((by_threat["adaptive"] - by_threat["transfer"]).mean())
    assert check["values"]["difference"] == pytest.approx(difference, abs=1e-6)
