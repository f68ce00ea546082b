"""Full disks, read-only folders, files that vanish, killed workers, two runs at once: one message, nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from rtok import files
from rtok.cli.app import build
from rtok.evaluation.loop import Evaluator
from tests.reliability.comparing import content
from tests.reliability.warm import Warm

Place = Callable[..., Path]


def rtok(folder: Path, command: str, *more: str) -> Result:
    """Run a command in this process, in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(build(), [command, "--config", "config.yaml", *more])
    finally:
        os.chdir(before)


def stopped(result: Result, *words: str) -> None:
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    assert [word for word in words if word not in result.stderr] == [], result.stderr


def finished(result: Result) -> None:
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)


def at_the_second_batch(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when an evaluation or an attack comes to its second batch."""
    calls = []
    for name in ("evaluate", "craft"):
        original = getattr(Evaluator, name)

        def spied(self: Evaluator, *arguments: Any, original: Any = original, name: str = name) -> Any:
            calls.append(name)
            if calls.count(calls[0]) == 2 and name == calls[0]:
                calls.append(name)  # once
                act()
            return original(self, *arguments)

        monkeypatch.setattr(Evaluator, name, spied)


@pytest.mark.parametrize("command", ["train", "attack", "eval-features"])
def test_a_full_disk(command: str, warm: Warm, place: Place) -> None:
    """No file may grow beyond three thousand bytes: that stops a state, a picture, a journal in its middle."""
    whole, full = place(command, "whole"), place(command, "full")
    assert warm.run(whole, command, "--config", "config.yaml") == 0
    assert warm.run(full, command, "--config", "config.yaml", file_size=3000) == 2
    said = (full / "output.txt").read_text()
    assert "stopped" in said and "File too large" in said and "--resume" in said and "Traceback" not in said
    assert warm.run(full, command, "--config", "config.yaml", "--resume") == 0
    assert content(full / "run") == content(whole / "run")


def test_a_disk_that_is_full_from_the_start(warm: Warm, place: Place) -> None:
    folder = place("train", "full")
    assert warm.run(folder, "train", "--config", "config.yaml", file_size=500) == 2
    assert "cannot write to run" in (folder / "output.txt").read_text()
    finished(rtok(folder, "train"))  # what it began is no run, and in nobody's way


def test_a_folder_that_becomes_read_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = place("eval-features", "whole"), place("eval-features", "cut")
    finished(rtok(whole, "eval-features"))
    replace = os.replace

    def refuse(source: Any, target: Any) -> None:
        if Path(target).name == "results.json":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", refuse)
        stopped(rtok(folder, "eval-features"), "results.json: Read-only file system", "--resume")
    finished(rtok(folder, "eval-features", "--resume"))
    assert content(folder / "run") == content(whole / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder(place: Place) -> None:
    folder = place("train", "locked")
    folder.chmod(0o555)
    stopped(rtok(folder, "train"), "cannot write to run", "--out")
    folder.chmod(0o755)


@pytest.mark.parametrize(
    ("command", "file", "words"),
    [
        ("eval-features", "run/state/images.jsonl", "was changed while the run went on"),
        ("eval-features", "run", "stopped"),
        ("attack", "run/images", "--resume"),
    ],
)
def test_a_file_of_the_run_vanishes(
    command: str, file: str, words: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = place(command, "whole"), place(command, "cut")
    finished(rtok(whole, command))
    target = folder / file

    def remove() -> None:
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    with monkeypatch.context() as patch:
        at_the_second_batch(patch, remove)
        stopped(rtok(folder, command), words)
    finished(rtok(folder, command, "--resume"))
    assert content(folder / "run") == content(whole / "run")


def test_a_picture_vanishes(place: Place, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"name": "folder", "root": str(tmp_path / "data"), "split": "test", "workers": 0}
    shutil.copytree(inputs / "classes", tmp_path / "data")
    whole, folder = place("eval-features", "whole", data=data), place("eval-features", "cut", data=data)
    finished(rtok(whole, "eval-features"))
    picture = tmp_path / "data" / "test" / "b" / "p5.png"
    with monkeypatch.context() as patch:
        at_the_second_batch(patch, lambda: picture.rename(tmp_path / "aside.png"))
        stopped(rtok(folder, "eval-features"), "p5.png", "No such file")
    (tmp_path / "aside.png").rename(picture)
    first = tmp_path / "data" / "test" / "a" / "p0.png"
    first.rename(tmp_path / "aside.png")  # one that was measured before
    stopped(rtok(folder, "eval-features", "--resume"), "gone now", "p0.png")
    (tmp_path / "aside.png").rename(first)
    finished(rtok(folder, "eval-features", "--resume"))
    assert content(folder / "run") == content(whole / "run")


def test_training_goes_on_with_the_same_images_only(place: Place, inputs: Path, tmp_path: Path, warm: Warm) -> None:
    shutil.copytree(inputs / "classes", tmp_path / "data")
    data = {"name": "folder", "root": str(tmp_path / "data"), "split": "test", "workers": 0}
    folder = place("train", "cut", data=data, train={"steps": 4000, "batch_size": 4, "checkpoint_every": 1})
    run = warm.start(folder, "train", "--config", "config.yaml")
    run.wait_for(folder / "run" / "state" / "train.pt")
    assert run.kill() == -signal.SIGKILL
    shutil.copy(tmp_path / "data" / "test" / "a" / "p0.png", tmp_path / "data" / "test" / "a" / "new.png")
    stopped(rtok(folder, "train", "--resume"), "other images")


def test_a_worker_is_killed_and_the_second_run_is_refused(warm: Warm, place: Place, inputs: Path) -> None:
    data = {"name": "folder", "root": str(inputs / "classes"), "split": "test", "workers": 1}
    folder = place("train", "run", data=data, train={"steps": 4000, "batch_size": 4, "checkpoint_every": 1})
    run = warm.start(folder, "train", "--config", "config.yaml")
    run.wait_for(folder / "run" / "state" / "train.pt")
    stopped(rtok(folder, "train", "--resume"), "another run is writing")
    os.kill(run.children()[0], signal.SIGKILL)
    assert run.wait() == 2
    said = (folder / "output.txt").read_text()
    assert "the system ended a process that reads images" in said and "Traceback" not in said
    assert not (folder / "run" / ".rtok.lock").exists()


def test_a_killed_run_with_workers_leaves_no_lock(warm: Warm, place: Place, inputs: Path) -> None:
    """Workers outlive the run by seconds, and must not hold its folder."""
    data = {"name": "folder", "root": str(inputs / "classes"), "split": "test", "workers": 2}
    folder = place("train", "run", data=data, train={"steps": 4000, "batch_size": 4, "checkpoint_every": 1})
    run = warm.start(folder, "train", "--config", "config.yaml")
    run.wait_for(folder / "run" / "state" / "train.pt")
    workers = run.children()
    assert len(workers) >= 2 and run.kill() == -signal.SIGKILL
    from rtok.runs.lock import FolderLock

    assert any(Path(f"/proc/{worker}").exists() for worker in workers)
    begin = time.monotonic()
    lock = FolderLock(folder / "run")
    lock.acquire()
    assert time.monotonic() - begin < 1
    lock.release()
