"""A resumed run whose inputs have changed is refused by name; one whose inputs are the same goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.training import train
from rtok.training.step import Trainer
from tests.runs.resume.changes import killed, one_less, one_more, other_content, other_tokens, other_weights

CHANGES = {
    other_tokens: r"defense .*tokens\.safetensors",
    other_weights: r"weights of dinov2_vits14",
    other_content: r"images \(7 images",
    one_more: r"images \(7 images, .* then, 8 images",
    one_less: r"images \(7 images, .* then, 6 images",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_evaluation_does_not_go_on_with_other_inputs(
    inputs: dict[str, Any], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    change(tmp_path)
    with pytest.raises(UserError, match=f"have changed since it began: {CHANGES[change]}"):
        evaluate_features(config, resume=True)
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before


def test_an_evaluation_goes_on_with_the_same_inputs(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    resumed = evaluate_features(config, resume=True)
    whole = evaluate_features(config.model_copy(update={"out": tmp_path / "whole"}))
    assert resumed["rows"] == whole["rows"]
    recorded = json.loads((config.out / "run.json").read_text())["inputs"]
    assert recorded == resumed["inputs"] and set(recorded) == {
        "rtok",
        "weights of dinov2_vits14",
        "images",
        f"defense {inputs['defense']}",
    }


def test_another_version_of_rtok_is_an_input(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    monkeypatch.setattr("rtok.runs.inputs.__version__", "9.9")
    with pytest.raises(UserError, match=r"rtok \(.* then, 9\.9 now\)"):
        evaluate_features(config, resume=True)


def test_what_auto_decided_is_an_input(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate({**inputs, "precision": "auto"})
    monkeypatch.setattr("rtok.compute.pays", lambda device: True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    monkeypatch.setattr("rtok.compute.pays", lambda device: False)
    with pytest.raises(UserError, match=r"gradients of attacks \(bf16 then, fp32 now\)"):
        evaluate_features(config, resume=True)


@pytest.mark.parametrize("change", [one_more, other_content, other_weights])
def test_an_attack_and_a_training_do_not_either(
    inputs: dict[str, Any], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    common = {key: inputs[key] for key in ("model", "data", "attack", "batch_size")}
    attack = Config.model_validate({**common, "out": str(tmp_path / "set")})
    training = {"defense": {"count": 3}, "train": {"steps": 3, "batch_size": 2, "checkpoint_every": 1}}
    training = Config.model_validate({**common, **training, "out": str(tmp_path / "training")})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "craft", 1)
        make_adversarial_set(attack)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Trainer, "step", 1)
        train(training)
    change(tmp_path)
    for go_on, config in ((make_adversarial_set, attack), (train, training)):
        with pytest.raises(UserError, match="have changed since it began"):
            go_on(config, resume=True)


def test_tokens_of_other_weights_are_refused_unless_it_is_meant(inputs: dict[str, Any]) -> None:
    tokens = RobustnessTokens.draw(3, 384, backbone="dinov2_vits14", fingerprint="0123456789abcdef")
    tokens.save(Path(inputs["defense"]))
    with pytest.raises(UserError, match=r"trained on other weights .*0123456789abcdef.*check_weights=false"):
        evaluate_features(Config.model_validate(inputs))
    assert not Path(inputs["out"]).exists()
    evaluate_features(Config.model_validate({**inputs, "check_weights": False}))


def test_other_images_are_counted_and_named(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    one_more(tmp_path)
    one_less(tmp_path)
    told = r"other images: 1 new \(picture9\.png for one\), 1 gone now \(picture6\.png for one\)"
    with pytest.raises(UserError, match=told):
        evaluate_features(config, resume=True)


def test_plugins_are_inputs(inputs: dict[str, Any]) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config, plugins={"mine.py": "aa"})
    with pytest.raises(UserError, match=r"plugin mine\.py \(aa then, bb now\)"):
        evaluate_features(config, resume=True, plugins={"mine.py": "bb"})
    results = evaluate_features(config, resume=True, plugins={"mine.py": "aa"})
    assert results["inputs"]["plugin mine.py"] == "aa"


def test_the_surrogate_is_an_input(inputs: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(inputs["model"]["weights"], tmp_path / "surrogate.safetensors")
    surrogate = {"model": {**inputs["model"], "weights": str(tmp_path / "surrogate.safetensors")}}
    config = Config.model_validate({**inputs, "surrogate": surrogate})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    other_weights(tmp_path)
    shutil.move(tmp_path / "weights.safetensors", tmp_path / "surrogate.safetensors")
    shutil.copy(tmp_path / "surrogate.safetensors", tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="weights of the surrogate"):
        evaluate_features(config, resume=True)
