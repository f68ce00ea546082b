"""The checks of the attacks: right attacks pass, every broken one is flagged by the check that names the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rtok.attacks import PGD, Perturbed
from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.evaluation.run import open_evaluator
from rtok.evaluation.sanity import run, sanity
from rtok.evaluation.sanity.checks import Checks
from rtok.evaluation.tasks.features import FeatureTask
from rtok.setup import Setup
from scripts import sanity_mutants
from scripts.sanity_mutants import BROKEN, broken, checked, register_backbone, write_run

GRADIENT = "the gradient is the deployed model's"
UNBOUNDED = "an unbounded attack beats noise"
STEPS = "four times the steps add little"
SEARCH = "random search is not stronger"
TRANSFER = "transfer is not stronger"
ALL = [GRADIENT, UNBOUNDED, STEPS, SEARCH, TRANSFER]
FAST = {"preset": "standard", "steps": 12}


@pytest.fixture
def small_run(tmp_path: Path, forgotten: None) -> dict[str, Any]:
    """A config of a right attack on trained tokens."""
    register_backbone()
    return {**write_run(tmp_path, 0, images=1, queries=10), "attack": FAST}


def failed(config: dict[str, Any]) -> dict[str, list[str]]:
    """The checks that fail, by victim."""
    found = checked(Config.model_validate(config))["checks"]
    return {
        victim: [check["check"] for check in found if check["victim"] == victim and not check["passed"]]
        for victim in ("plain", "robust")
    }


@pytest.mark.parametrize("defense", sanity_mutants.DEFENSES, ids=lambda defense: defense["kind"])
@pytest.mark.parametrize("images", [1, 3])
def test_a_right_attack_passes(tmp_path: Path, forgotten: None, images: int, defense: dict[str, Any]) -> None:
    register_backbone()
    config = write_run(tmp_path, 1, images=images, queries=50, defense=defense)
    found = checked(Config.model_validate({**config, "attack": FAST}))
    assert found["verdict"] == "sound", found["checks"]
    assert found["images"] == images
    assert [check["check"] for check in found["checks"]] == [*ALL[:3], *ALL]
    assert [check["victim"] for check in found["checks"]] == ["plain"] * 3 + ["robust"] * 5
    assert [check["defense"] for check in found["checks"]] == [None] * 3 + [config["defense"]] * 5


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_flagged(small_run: dict[str, Any], name: str) -> None:
    with broken(name):
        found = failed(small_run)
    if name in sanity_mutants.MODELS:
        assert GRADIENT in found["robust"] and not found["plain"]
    else:
        assert found["plain"] == [STEPS] and STEPS in found["robust"]


def test_an_attack_that_does_nothing_is_flagged(small_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGD, "run", lambda self, images, *_: Perturbed(images, images[:, 0, 0, 0]))
    found = failed(small_run)
    assert found == {"plain": [UNBOUNDED, STEPS], "robust": [UNBOUNDED, STEPS, SEARCH]}


def test_too_few_steps_are_flagged(small_run: dict[str, Any]) -> None:
    assert failed({**small_run, "attack": {"preset": "standard", "steps": 1}}) == {"plain": [STEPS], "robust": [STEPS]}


def test_every_attack_that_follows_gradients_is_checked_as_configured(small_run: dict[str, Any]) -> None:
    attacks = [FAST, {"method": "square", "queries": 5}, {"preset": "l2", "eps": 0.5, "steps": 16}]
    found = checked(Config.model_validate({**small_run, "attack": attacks}))["checks"]
    by_attack = {check["attack"]: [] for check in found}
    for check in found:
        by_attack[check["attack"]].append(check["check"])
    assert by_attack == {
        "standard, steps 12": [*ALL[:3], *ALL],
        "l2, eps 0.5, steps 16": [*ALL[:3], *(name for name in ALL if name != SEARCH)],
    }
    assert all(check["passed"] for check in found), found


def opened(config: dict[str, Any]) -> tuple[Setup, Any]:
    setup = Setup.open(Config.model_validate(config), Compute.start())
    return setup, open_evaluator(setup, FeatureTask(), None)


@pytest.mark.parametrize("changes", [{"sanity": {"images": 0}}, {"attack": {"method": "square", "queries": 5}}])
def test_there_may_be_nothing_to_check(small_run: dict[str, Any], changes: dict[str, Any]) -> None:
    assert sanity(*opened({**small_run, **changes})) is None


def test_images_of_different_groups_come_first() -> None:
    source = SimpleNamespace(keys=["a0", "a1", "b0", "b1", "c0"], groups=["a", "a", "b", "b", "c"])

    def chosen(images: int) -> list[str]:
        return run._spread(
            SimpleNamespace(source=source, config=SimpleNamespace(sanity=SimpleNamespace(images=images)))
        )

    assert chosen(2) == ["a0", "b0"]
    assert chosen(4) == ["a0", "b0", "c0", "a1"]
    assert len(chosen(9)) == 5


def test_an_unbounded_attack_has_to_beat_images_of_other_groups_alone(tmp_path: Path, forgotten: None) -> None:
    register_backbone()
    setup, evaluator = opened({**write_run(tmp_path, 0, images=3, queries=10), "attack": FAST})
    (plain, _) = run._white_box(setup, evaluator, setup.config.attacks[0])
    batch = setup.examples(setup.source.keys)
    assert batch is not None

    def others(*groups: str) -> list[float]:
        return Checks(evaluator, plain, replace(batch, groups=groups), 5)._other_images()

    features = evaluator.models[evaluator.victims[0]](batch.images)
    likeness = [torch.cosine_similarity(features[a], features[b], dim=-1).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert others("a", "a", "a") == []
    assert others("a", "b", "c") == [pytest.approx(float(sum(likeness)) / 3, abs=1e-5)]
    assert others("a", "a", "b") == [pytest.approx(float(sum(likeness[1:])) / 2, abs=1e-5)]
