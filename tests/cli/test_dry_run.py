"""`--dry-run` finds what a run would stumble over, and says what it would do; nothing is computed or written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.config import load_config
from rtok.config.rules import USES
from rtok.defenses import RobustnessTokens

Dry = Callable[..., Any]


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens" / "rtokens.safetensors"
    path.parent.mkdir()
    RobustnessTokens.draw(3, 384, backbone="dinov2_vits14", image_size=(28, 28), fingerprint="0" * 16).save(path)
    return path


@pytest.fixture
def dry(settings: dict[str, Any], tmp_path: Path) -> Dry:
    def dry(command: str, *arguments: str, **changes: Any) -> Any:
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({**settings, **changes}))
        done = CliRunner().invoke(build(), [command, "--config", str(tmp_path / "c.yaml"), "--dry-run", *arguments])
        assert done.exit_code in (0, 2), done.exception
        assert not (tmp_path / "run").exists()
        return done

    return dry


def plan(done: Any) -> list[str]:
    assert done.exit_code == 0, done.stderr
    return [line.removeprefix("# ") for line in done.stdout.splitlines() if line.startswith("# ")]


def test_the_plan_of_a_training(dry: Dry) -> None:
    done = dry("train", train={"steps": 4, "batch_size": 2}, tokens={"count": [2, 3]})
    lines = plan(done)
    assert lines[:3] == [
        "images: 7",
        "4 updates of 2 defenses, with 2 images each",
        "gradient steps of the attack: 3 per image, 24 in total",
    ]
    assert "rtokens-2.safetensors, rtokens-3.safetensors, metrics.jsonl" in lines[3]


def test_the_plan_of_an_evaluation(dry: Dry, tokens: Path) -> None:
    threats = ["transfer", "informed", "adaptive"]
    lines = plan(dry("eval-features", defense=str(tokens), threats=threats))
    # transfer and informed once; adaptive on the victim and five controls, away from two targets each
    assert lines[:2] == ["images: 7", "gradient steps: 42 per image, 294 in total, in 14 attacks"]
    lines = plan(dry("eval-features", defense=str(tokens), threats=["query"], query={"queries": [10, 20]}))
    assert "queries: 360 per image, 2,520 in total" in lines  # of the victim and five controls, from two starts
    lines = plan(dry("eval-features", defense=str(tokens), threats=["transfer"], curve=["1/255", "2/255"]))
    assert "gradient steps: 9 per image, 63 in total, in 3 attacks" in lines and "curve.csv" in lines[-1]


def test_the_plan_of_a_set(dry: Dry) -> None:
    lines = plan(dry("attack"))
    assert lines[1] == "gradient steps: 3 per image, 21 in total, in 1 attack"
    assert "images/ (7), manifest.csv, attack.json" in lines[2]


def test_the_files_of_a_probe(dry: Dry) -> None:
    data = {"name": "digits", "split": "test", "limit": 2}
    lines = plan(dry("eval-class", data=data, head={"type": "fit"}, threats=["transfer"]))
    assert "per_image.csv, *.png, examples/, heads/, config.yaml, run.json" in lines[-1]


@pytest.mark.parametrize("command", ["train", "attack", "eval-features"])
def test_the_config_is_what_the_command_uses_and_reads_back_equal(
    command: str, dry: Dry, tokens: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"defense": str(tokens)} if command == "eval-features" else {}
    done = dry(command, "--set", "attack.eps=4/255", **changes)
    printed = yaml.safe_load(done.stdout)
    assert set(printed) == set(USES[command]) and "eps: 4/255" in done.stdout
    (tmp_path / "printed.yaml").write_text(done.stdout)
    changed = load_config(command, tmp_path / "c.yaml", ["attack.eps=4/255"])
    again = load_config(command, tmp_path / "printed.yaml")
    assert {key: again.to_dict()[key] for key in printed} == {key: changed.to_dict()[key] for key in printed}


def test_data_that_is_missing(dry: Dry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images" in dry("train", data={"name": "folder", "root": str(tmp_path / "empty")}).stderr
    (tmp_path / "parts" / "val").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "parts" / "val" / "a.png")
    data = {"name": "folder", "root": str(tmp_path / "parts"), "split": "train"}
    assert "train" in dry("train", data=data).stderr


def test_weights_that_do_not_fit(dry: Dry, settings: dict[str, Any], tmp_path: Path) -> None:
    model = settings["model"]
    assert "are not those of 'dinov2_vitb14'" in dry("train", model={**model, "name": "dinov2_vitb14"}).stderr
    torch.save({"model": {"x": torch.zeros(3)}}, tmp_path / "other.pth")
    assert "other.pth" in dry("train", model={**model, "weights": str(tmp_path / "other.pth")}).stderr
    (tmp_path / "cut.safetensors").write_bytes(Path(model["weights"]).read_bytes()[:1000])
    assert "cannot be read" in dry("train", model={**model, "weights": str(tmp_path / "cut.safetensors")}).stderr


def test_weights_are_looked_at_and_not_read(dry: Dry, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("numbers were read")

    monkeypatch.setattr("rtok.models.loading.build_backbone", read)
    monkeypatch.setattr("rtok.models.backbone.Backbone.forward", read)
    assert dry("train").exit_code == 0


def test_defenses_that_do_not_fit(dry: Dry, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "holds no defense" in dry("eval-features", defense=str(tmp_path / "folder")).stderr
    wide = tmp_path / "folder" / "rtokens.safetensors"
    RobustnessTokens.draw(3, 768, backbone="dinov2_vitb14", image_size=(28, 28)).save(wide)
    done = dry("eval-features", defense=str(tmp_path / "folder"))
    assert done.exit_code == 2 and "768" in done.stderr and "384" in done.stderr


def test_a_folder_that_cannot_take_the_run(
    dry: Dry, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in dry("train", "--out", str(tmp_path / "file")).stderr
    there = tmp_path / "there"
    there.mkdir()
    (there / "run.json").write_text("{}")
    assert "already holds a run" in dry("train", "--out", str(there)).stderr
    assert dry("train", "--out", str(there), "--overwrite").exit_code == 0
    monkeypatch.setattr(os, "access", lambda *_: False)  # nothing is read-only to root
    assert "cannot be written to" in dry("train").stderr


def test_a_full_disk(dry: Dry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "0.0 GiB left: make room" in dry("attack").stderr


def test_a_tracker_that_is_missing(dry: Dry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtok.config.rules.find_spec", lambda name: None)
    done = dry("train", tracking="wandb")
    assert done.exit_code == 2
    assert 'tracking: wandb is not installed: pip install "robustness-tokens[tracking]"' in done.stderr


def test_keys_without_effect_are_named(dry: Dry) -> None:
    assert plan(dry("train", "--set", "batch_size=1"))[-1] == "train does not use sanity, batch_size"
    assert not any("does not use" in line for line in plan(dry("train", sanity={})))
