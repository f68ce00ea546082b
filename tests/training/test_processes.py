"""Several processes train the defense of one."""

from __future__ import annotations

import json
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
from safetensors.torch import load_file

from rtok.training import train
from tests.training.runs import ALL, KINDS, SGD, assert_same, config, metrics, tokens, wait_for_rows


@pytest.mark.parametrize("changes", [{}, {**ALL, **SGD}], ids=str)
def test_two_processes_give_the_tokens_of_one(
    settings: dict[str, Any],
    tmp_path: Path,
    run_rtok: Callable[..., subprocess.CompletedProcess[str]],
    changes: dict[str, Any],
) -> None:
    # 3 images a process: which of them the mixed attacks reach must be counted over both
    settings |= {"tokens": {"count": [3, 4]}, "train": {"steps": 5, "batch_size": 6, **changes}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, tokens=settings["tokens"], train=settings["train"], out=tmp_path / "one"))
    done = run_rtok("train", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    for name in ("rtokens-3.safetensors", "rtokens-4.safetensors"):
        one, two = (load_file(tmp_path / out / name)["rtokens"] for out in ("one", "two"))
        torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["device"]["processes"] == 2
    for one_row, two_row in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert one_row["step"] == two_row["step"] and one_row["count"] == two_row["count"]
        for key in ("loss", *(("cosine_to_plain", "fidelity") if changes else ())):
            assert one_row[key] == pytest.approx(two_row[key], abs=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tokens"])
def test_two_processes_give_any_defense_of_one(
    small: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]], kind: str
) -> None:
    settings = small | {"tokens": KINDS[kind], "train": {"steps": 3, "batch_size": 4, "threat": "adaptive", **SGD}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, tokens=settings["tokens"], train=settings["train"], out=tmp_path / "one"))
    done = run_rtok("train", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "two", tmp_path / "one", atol=1e-5)


def test_two_killed_processes_resume_to_the_tokens_of_one(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings |= {"tokens": {"count": 3}, "train": {"steps": 10, "batch_size": 4, "checkpoint_every": 2}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    train(config(settings, train=settings["train"], out=tmp_path / "whole"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    killed = subprocess.Popen(
        [*launcher, "-m", "rtok", "train", "--config", str(file), "--out", str(tmp_path / "cut")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    wait_for_rows(tmp_path / "cut", 3)
    workers = [int(pid) for pid in _children(killed.pid)]
    for pid in (killed.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    assert len(workers) == 2
    assert not (tmp_path / "cut" / "rtokens.safetensors").exists()
    done = run_rtok("train", "--config", file, "--out", tmp_path / "cut", "--resume", processes=2)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(tokens(tmp_path / "cut"), tokens(tmp_path / "whole"), rtol=0, atol=1e-5)
    assert [row["step"] for row in metrics(tmp_path / "cut")] == list(range(1, 11))


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_batch_that_processes_cannot_share_is_refused(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings |= {"tokens": {"count": 3}, "train": {"steps": 5, "batch_size": 3}}
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    done = run_rtok("train", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode != 0 and "2 processes cannot share" in done.stderr
    assert not (tmp_path / "two").exists()
