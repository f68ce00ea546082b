"""What a resumed run may change, how a folder says its command, and what Ctrl-C promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.runs.resume import command_of
from rtok.training import train
from tests.runs.resume.changes import killed


def test_more_steps_can_be_trained_on(inputs: dict[str, Any], tmp_path: Path) -> None:
    def config(name: str, steps: int) -> Config:
        common = {key: inputs[key] for key in ("model", "data", "attack")}
        defense, training = {"count": 3}, {"steps": steps, "batch_size": 2}
        return Config.model_validate({**common, "defense": defense, "train": training, "out": str(tmp_path / name)})

    train(config("long", 4))
    train(config("short", 2))
    longer = train(config("short", 4), resume=True)
    assert longer.last[0]["step"] == 4
    long, short = (RobustnessTokens.load(tmp_path / name / "rtokens.safetensors") for name in ("long", "short"))
    assert torch.equal(long.values, short.values)
    assert "steps: 4" in (tmp_path / "short" / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"other settings: train\.steps \(4 then, 2 now\)"):
        train(config("short", 2), resume=True)


def test_a_folder_says_how_it_is_resumed(inputs: dict[str, Any], tmp_path: Path) -> None:
    common = {key: inputs[key] for key in ("model", "data", "attack")}
    make_adversarial_set(
        Config.model_validate({**common, "out": str(tmp_path / "set")}), command=("rtok", "attack", "--config", "a")
    )
    evaluate_features(Config.model_validate(inputs), command=("rtok", "eval-features", "--config", "b"))
    assert command_of(tmp_path / "set")[0] == "attack"
    command, config = command_of(Path(inputs["out"]))
    assert (command, config.to_dict()) == ("eval-features", Config.model_validate(inputs).to_dict())
    with pytest.raises(UserError, match="not the folder of a run"):
        command_of(tmp_path / "pictures")


def test_ctrl_c_promises_only_what_is_saved(inputs: dict[str, Any]) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="nothing is saved yet"):
        killed(patch, Evaluator, "evaluate", 0)
        evaluate_features(config)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="from the last saved state"):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config, resume=True)
