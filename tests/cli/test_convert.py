from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.cli.convert import parse_size
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.models import registry


@pytest.fixture
def made(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with `weights.safetensors` and `rtokens.safetensors` of a tiny DINOv2 with registers."""
    model = tiny("dinov2_vits14_reg")
    monkeypatch.setitem(registry._BY_NAME, model.spec.name, model.spec)
    monkeypatch.chdir(tmp_path)
    model.path.rename("weights.safetensors")
    RobustnessTokens(torch.randn(1, 5, 64), backbone=model.spec.name).save(Path("rtokens.safetensors"))
    return model


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(), ["convert", *arguments])


def test_it_says_what_it_wrote_and_how_well_it_agrees(made: Any) -> None:
    done = run("rtokens.safetensors", "robust.pth", "--backbone-weights", "weights.safetensors", "--dtype", "fp16")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "wrote robust.pth",
        "wrote robust.yaml",
        "dinov2_vits14_reg with 5 robustness tokens after 4 registers of the model, fp16",
    ]
    assert lines[3].startswith("read back by timm at 518 x 518 px: largest difference from rtok's features ")
    assert float(lines[3].rpartition(" ")[2]) < 1e-4
    assert lines[4].startswith("storing in fp16 changes the features by up to ")
    assert float(lines[4].rpartition(" ")[2]) < 0.1
    assert "--config-file robust.yaml --pretrained-weights robust.pth" in lines[5]


def test_every_option_reaches_the_conversion(made: Any) -> None:
    arguments = ["rtokens.safetensors", "out.pth", "--to", "timm", "--model", "dinov2_vits14_reg"]
    arguments += ["--backbone-weights", "weights.safetensors", "--image-size", "56"]
    assert run(*arguments).exit_code == 0
    assert torch.load("out.pth")["pos_embed"].shape == (1, 16, 64)
    refused = run(*arguments)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    assert run(*arguments, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("weights.safetensors", "out.pth", "--backbone-weights", "weights.safetensors"),
        ("rtokens.safetensors", "out.pth", "--backbone-weights", "rtokens.safetensors"),
        ("rtokens.safetensors", "out.pth", "--model", "dinov2_vits14"),
        ("rtokens.safetensors", "out.pth", "--to", "tim"),
        ("rtokens.safetensors", "out.onnx", "--to", "onnx", "--image-size", "big"),
    ],
)
def test_what_is_refused_ends_with_2_and_writes_nothing(made: Any, arguments: tuple[str, ...]) -> None:
    before = sorted(Path().iterdir())
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert sorted(Path().iterdir()) == before


def test_sizes() -> None:
    assert parse_size("224") == (224, 224)
    assert parse_size("224x336") == (224, 336)
    for text in ("", "0", "-1", "1x2x3", "axb", "2.5"):
        with pytest.raises(UserError, match="such as 224"):
            parse_size(text)
