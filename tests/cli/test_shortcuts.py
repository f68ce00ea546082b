from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.cli.command import Options
from rtok.cli.runs import COMMANDS
from rtok.cli.shortcuts import Shortcuts
from rtok.config import Config, DataConfig, load_config
from rtok.errors import UserError

MODEL = ["--model", "dinov2_vits14"]
SMALL = ["--set", "model.image_size=28", "--set", "attack.steps=2", "--set", "data.workers=0"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configs that commands would run."""
    configs: list[Config] = []

    def run(config: Config, options: Options) -> None:
        configs.append(config)

    for command in COMMANDS.values():
        monkeypatch.setattr(command, "run", run)
    return configs


def rtok(*arguments: str) -> Any:
    return CliRunner().invoke(build(), list(arguments))


def test_a_model_and_a_folder_are_enough_to_train(configs: list[Config]) -> None:
    assert rtok("train", *MODEL, "--data", "my photos").exit_code == 0
    [config] = configs
    assert config.model.name == "dinov2_vits14"
    assert (config.data.name, config.data.root) == ("folder", Path("my photos"))
    assert config == load_config("train", None, ["model.name=dinov2_vits14", "data={name: folder, root: my photos}"])


def test_set_changes_what_the_flags_say(configs: list[Config]) -> None:
    changes = ["--set", "data.holdout=0.2", "--set", "model.image_size=98"]
    assert rtok("train", *changes, *MODEL, "--data", "my photos").exit_code == 0
    assert configs[0].data == DataConfig(name="folder", root=Path("my photos"), holdout=0.2)
    assert configs[0].model.size == (98, 98)


def test_flags_change_a_config(configs: list[Config], folder: Path) -> None:
    (folder / "x.yaml").write_text("model: {name: dinov2_vitb14}\ndata: {name: digits, split: test}\nseed: 3\n")
    (folder / "w.pth").touch()
    assert rtok("train", "--config", "x.yaml", *MODEL, "--weights", "w.pth", "--data", "my photos").exit_code == 0
    [config] = configs
    assert (config.model.name, config.model.weights, config.seed) == ("dinov2_vits14", Path("w.pth"), 3)
    assert config.data == DataConfig(name="folder", root=Path("my photos"))


@pytest.mark.parametrize(
    ("command", "given", "key"),
    [
        ("train", ["lora"], '{"kind": "lora"}'),
        ("eval-features", ["run"], '"run"'),
        ("eval-features", ["run", "b"], '["run", "b"]'),
    ],
)
def test_a_defense_is_a_kind_to_train_and_a_run_to_measure(command: str, given: list[str], key: str) -> None:
    assert Shortcuts(defenses=given).overrides(command) == [f"defense={key}"]


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--model", "dinov2_vits1", "--data", "no"], ["\n  --model: There is no backbone", "\n  --data: no does not"]),
        ([*MODEL], ["\n  --data: is missing"]),
        ([*MODEL, "--data", "my photos"], ["error: --data: there are no images in my photos"]),
        ([*MODEL, "--data", "my photos", "--weights", "w.pth"], ["\n  --weights: w.pth does not exist"]),
        ([*MODEL, "--data", "my photos", "--defense", "loar"], ['\n  --defense: "loar" was given; valid: tokens']),
        ([*MODEL, "--data", "run", "--defense", "lora", "--defense", "tokens"], ["--defense: train makes one defense"]),
        (["--data", "my photos"], ["pass --model NAME and --data FOLDER, or --config FILE"]),
    ],
)
def test_errors_name_the_flag(arguments: list[str], messages: list[str]) -> None:
    done = rtok("train", *arguments, "--dry-run")
    assert done.exit_code == 2
    assert all(message in done.stderr for message in messages), done.stderr


def test_with_a_config_only_the_given_flags_are_named() -> None:
    with pytest.raises(UserError) as caught, Shortcuts(data="x").named_in_errors(only_given=True):
        raise UserError("c.yaml: 3 mistakes\n  --set data.root: a\n  model.weights: b\n  data.holdout: c")
    assert str(caught.value) == "c.yaml: 3 mistakes\n  --data: a\n  model.weights: b\n  data.holdout: c"


def test_without_a_yaml_file_from_photos_to_results(weights: Path, pictures: Path) -> None:
    usual = [*MODEL, "--weights", str(weights), "--data", str(pictures), *SMALL]
    trained = rtok("train", *usual, "--set", "train.steps=1", "--set", "train.batch_size=2", "--out", "trained")
    assert trained.exit_code == 0, trained.output
    quick = ["--set", "threats=[transfer]", "--set", "sanity.images=0", "--set", "control_draws=1"]
    measured = rtok("eval-features", *usual, *quick, "--defense", "trained", "--out", "measured")
    assert measured.exit_code == 0, measured.output
    results = json.loads(Path("measured/results.json").read_text())
    assert {row["victim"] for row in results["rows"]} == {"plain", "random", "robust"}
    assert results["images"] == 7
