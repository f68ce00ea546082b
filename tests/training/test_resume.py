"""A training that is interrupted or killed goes on to the same defense."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rtok.errors import UserError
from rtok.training import train
from tests.training.runs import (
    ALL,
    FILES,
    KINDS,
    assert_same,
    config,
    interrupted_at,
    metrics,
    tokens,
    wait_for_rows,
    without_seconds,
)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("tokens", {}),
        ("tokens", {"threat": "adaptive"}),
        ("tokens", ALL),
        ("deep-tokens", {"threat": "mixed"}),
        ("lora", {**ALL, "lr": 1e-3}),
        ("weights", {**ALL, "lr": 1e-3}),
    ],
    ids=str,
)
def test_an_interrupted_run_resumes_to_the_same_defense(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, changes: dict[str, Any]
) -> None:
    every_two = {"steps": 5, "batch_size": 3, "checkpoint_every": 2, **changes}
    train(config(small, out=tmp_path / "whole", tokens=KINDS[kind], train=every_two))
    cut = config(small, out=tmp_path / "cut", tokens=KINDS[kind], train=every_two)
    with interrupted_at(monkeypatch, step=4):
        train(cut)
    assert not list(cut.out.glob("*.safetensors"))
    train(cut, resume=True)
    assert_same(cut.out, tmp_path / "whole")
    assert without_seconds(metrics(cut.out)) == without_seconds(metrics(tmp_path / "whole"))
    assert len(list(cut.out.iterdir())) == len(FILES)


def test_a_finished_run_is_left_alone(settings: dict[str, Any]) -> None:
    cfg = config(settings)
    train(cfg)
    before = {path: path.read_bytes() for path in cfg.out.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="--resume"):
        train(cfg)
    result = train(cfg, resume=True)
    assert {path: path.read_bytes() for path in cfg.out.iterdir() if path.is_file()} == before
    assert result.files == [cfg.out / "rtokens.safetensors"]


def test_a_killed_run_resumes_to_the_same_tokens(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings |= {"tokens": {"count": 3}, "train": {"steps": 12, "batch_size": 4, "checkpoint_every": 3}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, train=settings["train"], out=tmp_path / "whole"))
    command = [sys.executable, "-m", "rtok", "train", "--config", str(file), "--out", str(tmp_path / "cut")]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()})
    wait_for_rows(tmp_path / "cut", 4)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = run_rtok("train", "--config", file, "--out", tmp_path / "cut", "--resume")
    assert done.returncode == 0, done.stderr
    assert torch.equal(tokens(tmp_path / "cut"), tokens(tmp_path / "whole"))
    assert without_seconds(metrics(tmp_path / "cut")) == without_seconds(metrics(tmp_path / "whole"))
