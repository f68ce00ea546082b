"""Wrong input, through the whole command: exit 2, one message, no traceback, nothing written (issue 2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.defenses import RobustnessTokens


class Opener:
    """A pickle that would run code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, (str(self.path), "w"))


@pytest.fixture
def good(settings: dict[str, Any]) -> dict[str, Any]:
    """A config that runs; `out` does not exist yet."""
    return {**settings, "train": {"steps": 1, "batch_size": 2}, "tokens": {"count": 2}}


def run(tmp_path: Path, config: dict[str, Any] | str | bytes, *more: str, command: str = "train") -> Result:
    file = tmp_path / "config.yaml"
    if isinstance(config, dict):
        config = yaml.safe_dump(config)
    file.write_bytes(config.encode() if isinstance(config, str) else config)
    return CliRunner().invoke(build(), [command, "--config", str(file), *more])


def refused(result: Result, out: Path, *words: str) -> None:
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, (word, result.stderr)
    assert not out.exists()


def test_the_good_config_runs(good: dict[str, Any], tmp_path: Path) -> None:
    result = run(tmp_path, good)
    assert result.exit_code == 0, result.output
    assert (Path(good["out"]) / "rtokens.safetensors").exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("trian", {}, ["trian", "Did you mean", "train"]),
        ("train", {"steps": 0}, ["train.steps", "0"]),
        ("train", {"steps": "many"}, ["train.steps", "many"]),
        ("train", {"stepz": 3}, ["train.stepz", "steps"]),
        ("attack", {"eps": -1}, ["attack.eps", "-1"]),
        ("attack", {"steps": 0}, ["attack.steps"]),
        ("tokens", {"count": 0}, ["tokens.count"]),
        ("data", {"name": "folder", "root": "nowhere/at/all"}, ["nowhere/at/all"]),
        ("data", {"name": "fodler", "root": "."}, ["data.name", "fodler", "folder"]),
        ("model", {"name": "dinov2_vits14", "image_size": 30}, ["model.image_size", "30", "28"]),
        ("model", {"name": "dinov2_vits15"}, ["dinov2_vits15", "dinov2_vits14"]),
    ],
)
def test_configs(good: dict[str, Any], tmp_path: Path, key: str, value: Any, words: list[str]) -> None:
    if key == "model":
        value = {**good["model"], **value}
    refused(run(tmp_path, {**good, key: value}), Path(good["out"]), *words)


def test_all_mistakes_at_once(good: dict[str, Any], tmp_path: Path) -> None:
    wrong = {**good, "train": {"steps": 0, "lr": -1}, "attack": {"eps": -1}, "seeed": 1}
    refused(run(tmp_path, wrong), Path(good["out"]), "train.steps", "train.lr", "attack.eps", "seeed")


@pytest.mark.parametrize("text", ["", "   \n# nothing\n", "model: [\n", "model:\n\tname: x\n", "- a list\n"])
def test_no_yaml_mapping(good: dict[str, Any], tmp_path: Path, text: str) -> None:
    refused(run(tmp_path, text), Path(good["out"]), "config.yaml")


def test_no_config_at_all(tmp_path: Path) -> None:
    result = CliRunner().invoke(build(), ["train", "--out", str(tmp_path / "run")])
    refused(result, tmp_path / "run", "--config")
    result = CliRunner().invoke(
        build(), ["train", "--config", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "run")]
    )
    refused(result, tmp_path / "run", "none.yaml")


def test_a_folder_without_images(good: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    data = {**good["data"], "root": str(tmp_path / "empty")}
    refused(run(tmp_path, {**good, "data": data}), Path(good["out"]), "empty", "png")


def with_weights(good: dict[str, Any], path: Path, **model: Any) -> dict[str, Any]:
    return {**good, "model": {**good["model"], "weights": str(path), **model}}


def test_weights(good: dict[str, Any], tmp_path: Path) -> None:
    weights, out = Path(good["model"]["weights"]), Path(good["out"])
    refused(
        run(tmp_path, with_weights(good, weights, name="dinov2_vitb14")), out, "dinov2_vitb14", "vits14.safetensors"
    )
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(weights.read_bytes()[:100_000])
    refused(run(tmp_path, with_weights(good, truncated)), out, "truncated.safetensors")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:200])
    refused(run(tmp_path, with_weights(good, tmp_path / "cut.pth")), out, "cut.pth")


def test_a_pickle_that_would_run_code(good: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"cls_token": Opener(tmp_path / "ran")}, tmp_path / "evil.pth")
    refused(run(tmp_path, with_weights(good, tmp_path / "evil.pth")), Path(good["out"]), "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_tokens_of_another_width(good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    RobustnessTokens.draw(3, 768, backbone="dinov2_vitb14", image_size=(28, 28)).save(path)
    result = run(tmp_path, {**good, "tokens": str(path)}, command="eval-features")
    refused(result, Path(good["out"]), "wide.safetensors", "dinov2_vitb14", "768", "384")


def test_a_folder_that_holds_a_run(good: dict[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path, good).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in Path(good["out"]).rglob("*")}
    result = run(tmp_path, good)
    assert result.exit_code == 2 and "--resume" in result.stderr and "--overwrite" in result.stderr
    result = run(tmp_path, {**good, "seed": 5}, "--resume")
    assert result.exit_code == 2 and "seed (0 then, 5 now)" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in Path(good["out"]).rglob("*")} == before


def test_ctrl_c_is_130_and_says_how_to_go_on(
    good: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file, journal = tmp_path / "long.yaml", Path(good["out"]) / "metrics.jsonl"
    file.write_text(yaml.safe_dump({**good, "train": {"steps": 4000, "batch_size": 2}}))
    command = [sys.executable, "-m", "rtok", "train", "--config", str(file)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    try:
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "--resume" in stderr and "Traceback" not in stderr
