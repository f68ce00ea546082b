from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.defenses import RobustnessTokens


def test_it_prints_all_there_is_to_say(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    config = {"train": {"steps": 50, "lr": 0.001}}
    RobustnessTokens(
        torch.zeros(1, 3, 8), backbone="dinov2_vits14", image_size=(28, 28), config=config, version="0.1.0"
    ).save(Path("a.safetensors"))
    torch.save({"rtokens": torch.zeros(1, 2, 8)}, "b.pt")
    done = CliRunner().invoke(build(), ["inspect", "a.safetensors", "b.pt"])
    assert done.exit_code == 0
    assert (
        done.stdout
        == """\
a.safetensors
  kind        robustness tokens
  backbone    dinov2_vits14
  tokens      3 of width 8
  trained at  28 x 28 px
  made by     rtok 0.1.0
tensors
  rtokens  (1, 3, 8)  float32
training
  train:
    steps: 50
    lr: 0.001

b.pt
  kind      robustness tokens
  backbone  not named in the file
  tokens    2 of width 8
tensors
  rtokens  (1, 2, 8)  float32
"""
    )


def test_a_token_file_needs_neither_torch_nor_timm(tmp_path: Path) -> None:
    RobustnessTokens(torch.zeros(1, 3, 8)).save(tmp_path / "a.safetensors")
    program = "import sys, rtok; rtok.inspect(sys.argv[1]); print({'torch', 'timm'} & {*sys.modules})"
    command = [sys.executable, "-c", program, str(tmp_path / "a.safetensors")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
    torch.save({"rtokens": torch.zeros(1, 2, 8)}, tmp_path / "b.pt")
    command = [sys.executable, "-c", program, str(tmp_path / "b.pt")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "{'torch'}\n"


def test_a_bad_path_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("a.safetensors", "c.safetensors"):
        RobustnessTokens(torch.zeros(1, 3, 8)).save(tmp_path / name)
    names = ("a.safetensors", "none.pth", "c.safetensors", "nor.onnx")
    done = CliRunner().invoke(build(), ["inspect", *(str(tmp_path / name) for name in names)])
    assert done.exit_code == 2
    assert [line for line in done.stdout.split("\n") if str(tmp_path) in line] == [
        str(tmp_path / "a.safetensors"),
        str(tmp_path / "c.safetensors"),
    ]
    first, second = done.stderr.rstrip("\n").split("\n")
    assert first.startswith("error: There is no file") and "none.pth" in first and "nor.onnx" in second


def test_what_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["inspect", str(tmp_path / "none.pth")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: There is no")


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RobustnessTokens.draw(2, 384, backbone="dinov2_vits14").save(tmp_path / "t.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(build(), ["inspect", "~/t.safetensors"])
    assert done.exit_code == 0 and done.stdout.startswith(str(tmp_path / "t.safetensors"))
    done = CliRunner().invoke(build(), ["inspect", "~nobody-of-this-name/t.safetensors"])
    assert done.exit_code == 2 and "there is no user of this name" in done.stderr
