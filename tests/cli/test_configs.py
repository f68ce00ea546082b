from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.config import load_config
from rtok.config.ready import all_ready


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(), ["configs", *arguments])


def test_they_are_listed_with_what_they_are() -> None:
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(all_ready())
    (line,) = (line for line in lines if line.startswith("train/dinov2_vits14 "))
    assert line.endswith("  The paper's training: 10 tokens, 50 steps of 8 images, the paper's attack.")


def test_a_copy_can_be_edited_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    done = run("copy", "dinov2_vits14")
    commands = [name.split("/")[0] for name in all_ready() if name.endswith("/dinov2_vits14")]
    assert {"train", "eval-features"} <= set(commands)
    assert done.stdout == "".join(f"wrote {command}-dinov2_vits14.yaml\n" for command in commands)
    for command in ("train", "eval-features"):
        assert load_config(command, f"{command}-dinov2_vits14.yaml") == load_config(command, "dinov2_vits14")
    assert run("copy", "train/dinov2_vits14", "--out", "here/there").exit_code == 0
    assert [path.name for path in Path("here/there").iterdir()] == ["train-dinov2_vits14.yaml"]
    assert run("copy", "protocol-v1").stdout == "wrote protocol-v1.yaml\n"


def test_nothing_is_replaced_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train-dinov2_vits14.yaml").write_text("mine")
    done = run("copy", "dinov2_vits14")
    assert done.exit_code == 2 and "already exists: replace it with --overwrite" in done.stderr
    assert [path.read_text() for path in Path().iterdir()] == ["mine"]
    assert run("copy", "dinov2_vits14", "--overwrite").exit_code == 0
    assert Path("train-dinov2_vits14.yaml").read_text() == all_ready()["train/dinov2_vits14"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "--out file is a file; it takes a folder."),
        ("file/folder", "cannot write to file/folder: Not a directory. Choose another folder with --out."),
    ],
)
def test_a_file_where_the_folder_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    done = run("copy", "train/dinov2_vits14", "--out", out)
    assert (done.exit_code, done.stdout) == (2, "") and message in done.stderr
    assert [path.read_text() for path in Path().iterdir()] == ["mine"]


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "write_bytes", refuse)  # nothing is read-only to root
    done = run("copy", "train/dinov2_vits14", "--out", str(tmp_path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"cannot write to {tmp_path}: Permission denied." in done.stderr


def test_an_unknown_name_ends_with_2() -> None:
    done = run("copy", "dinov2_vits15")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no ready config 'dinov2_vits15'. Did you mean 'dinov2_vits14'?" in done.stderr
