from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from rtok import preparation
from rtok.cli.app import build


def run(*arguments: str):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(build(), ["prepare-imagenet", *arguments])


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, object]] = []
    monkeypatch.setattr(preparation, "prepare_imagenet", lambda root, **more: calls.append((root, more)))
    assert run("--root", "r").exit_code == 0
    every = "--root r --extra e --labels l --split val --archives a --allow-partial --dry-run"
    assert run(*every.split()).exit_code == 0
    default = {"extra": None, "labels": None, "split": "all", "archives": None}
    given = {"extra": Path("e"), "labels": Path("l"), "split": "val", "archives": Path("a")}
    assert calls == [
        (Path("r"), {**default, "allow_partial": False, "dry_run": False}),
        (Path("r"), {**given, "allow_partial": True, "dry_run": True}),
    ]


def test_it_runs_and_wrong_input_is_one_message(tmp_path: Path) -> None:
    done = run("--root", str(tmp_path))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: --root: ")
    assert list(tmp_path.iterdir()) == []

    folder = tmp_path / "val" / "n01440764"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "ILSVRC2012_val_00000293.JPEG")
    assert run("--root", str(tmp_path), "--allow-partial").exit_code == 0
    assert (tmp_path / "entries-VAL.npy").is_file()
    assert run().exit_code == 2
