"""The checks of the attacks: right attacks pass, every broken one is flagged by the check that names the reason."""

from __future__ import annotations

from collections.abc import Iterator
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
from rtok.models import registry
from rtok.setup import Setup
from scripts.sanity_mutants import ATTACKS, DEFENSES, MODELS, broken, checked, register_backbone, write_run

GRADIENT = "the gradient is the deployed model's"
UNBOUNDED = "an unbounded attack beats noise"
STEPS = "four times the steps add little"
SEARCH = "random search is not stronger"
TRANSFER = "transfer is not stronger"
ALL = [GRADIENT, UNBOUNDED, STEPS, SEARCH, TRANSFER]
FAST = {"preset": "standard", "steps": 12}


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """The small backbone is known to this module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_BY_NAME", dict(registry._BY_NAME))
        register_backbone()
        yield


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, registered: None) -> dict[str, Any]:
    """A config of a right attack on trained tokens."""
    return {**write_run(tmp_path_factory.mktemp("run"), 0, images=1, queries=10), "attack": FAST}


def failed(config: dict[str, Any]) -> dict[str, list[str]]:
    """The checks that fail, by victim."""
    found = checked(Config.model_validate(config))["checks"]
    return {
        victim: [check["check"] for check in found if check["victim"] == victim and not check["passed"]]
        for victim in ("plain", "robust")
    }


@pytest.mark.parametrize(
    ("defense", "images"), tuple(zip(DEFENSES, (3, 1, 1), strict=True)), ids=[defense["kind"] for defense in DEFENSES]
)
def test_a_right_attack_passes(tmp_path: Path, registered: None, images: int, defense: dict[str, Any]) -> None:
    config = write_run(tmp_path, 1, images=images, queries=20, defense=defense)
    found = checked(Config.model_validate({**config, "attack": FAST}))
    assert found["verdict"] == "sound", found["checks"]
    assert found["images"] == images
    assert [check["check"] for check in found["checks"]] == [*ALL[:3], *ALL]
    assert [check["victim"] for check in found["checks"]] == ["plain"] * 3 + ["robust"] * 5
    assert [check["defense"] for check in found["checks"]] == [None] * 3 + [config["defense"]] * 5


@pytest.mark.parametrize("name", MODELS)
def test_a_broken_gradient_is_flagged(small_run: dict[str, Any], name: str) -> None:
    with broken(name):
        setup, evaluator = opened(small_run)
        _, robust = run._white_box(setup, evaluator, setup.config.attacks[0])
        batch = setup.examples(setup.source.keys)
        assert batch is not None
        found = Checks(evaluator, robust, batch, 5).gradients()
    assert (found["check"], found["victim"], found["passed"]) == (GRADIENT, "robust", False)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_broken_attack_is_flagged(small_run: dict[str, Any], name: str) -> None:
    with broken(name):
        found = failed(small_run)
    assert found["plain"] == [STEPS] and STEPS in found["robust"]


def test_a_rounding_is_flagged_by_all_that_it_makes_weaker(small_run: dict[str, Any]) -> None:
    with broken("rounding defense"):
        found = failed(small_run)
    assert found["plain"] == [] and {GRADIENT, UNBOUNDED, TRANSFER} <= set(found["robust"])


def test_an_attack_that_does_nothing_is_flagged(small_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGD, "run", lambda self, images, *_: Perturbed(images, images[:, 0, 0, 0]))
    found = failed(small_run)
    assert found == {"plain": [UNBOUNDED, STEPS], "robust": [UNBOUNDED, STEPS, SEARCH]}


def test_too_few_steps_are_flagged(small_run: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert failed({**small_run, "attack": {"preset": "standard", "steps": 1}}) == {"plain": [STEPS], "robust": [STEPS]}
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sanity ") and ": " in line]
    names = [*(f"{name}, plain" for name in ALL[:3]), *(f"{name}, robust" for name in ALL)]
    assert said == [f"sanity {number}/8: {name}" for number, name in enumerate(names, 1)]


def test_every_attack_that_follows_gradients_is_checked(small_run: dict[str, Any]) -> None:
    attacks = [
        {"preset": "standard", "steps": 2},
        {"method": "square", "queries": 5},
        {"preset": "l2", "eps": 0.5, "steps": 2},
    ]
    by_attack: dict[str, list[str]] = {}
    for check in checked(Config.model_validate({**small_run, "attack": attacks}))["checks"]:
        by_attack.setdefault(check["attack"], []).append(check["check"])
    assert by_attack == {
        "standard, steps 2": [*ALL[:3], *ALL],
        "l2, eps 0.5, steps 2": [*ALL[:3], *(name for name in ALL if name != SEARCH)],
    }


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


def test_an_unbounded_attack_has_to_beat_images_of_other_groups_alone(tmp_path: Path, registered: None) -> None:
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
