"""A conversion is all or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.conversion import convert
from rtok.conversion.dinov2 import Dinov2
from rtok.conversion.transformers import Transformers
from rtok.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_what_it_names_and_nothing_else(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14_reg")
    done = convert(made.path, tmp_path / "new" / "r.pth", backbone_weights=made.weights)
    assert names(tmp_path / "new") == ["r.pth", "r.yaml"]
    assert {path.stat().st_mode for path in (tmp_path / "new").iterdir()} == {made.path.stat().st_mode}
    assert done.files == [tmp_path / "new" / "r.pth", tmp_path / "new" / "r.yaml"]
    assert (done.registers, done.tokens, done.image_size, done.rounding) == (4, 5, (518, 518), 0.0)


@pytest.mark.parametrize("to", ["dinov2", "transformers"])
def test_a_file_that_computes_something_else_is_not_kept(
    robust: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    target: Any = {"dinov2": Dinov2, "transformers": Transformers}[to]
    read = target.read
    monkeypatch.setattr(target, "read", lambda self, *args: lambda images: 1.001 * read(self, *args)(images))
    made = robust("dinov2_vits14")
    before = names(tmp_path)
    with pytest.raises(RuntimeError, match=rf"{to} file computes different features.*The file was not kept"):
        convert(made.path, tmp_path / {"dinov2": "out.pth"}.get(to, "out"), to=to, backbone_weights=made.weights)
    assert names(tmp_path) == before


def test_features_that_are_no_numbers_are_not_kept(
    robust: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(images: Tensor) -> Tensor:
        return torch.full((len(images), 1 + 37 * 37, 64), torch.nan)

    monkeypatch.setattr(Dinov2, "read", lambda *_: nothing)
    made = robust("dinov2_vits14")
    with pytest.raises(RuntimeError, match="differ by up to nan"):
        convert(made.path, tmp_path / "out.pth", backbone_weights=made.weights)


@pytest.mark.parametrize("blocker", ["r.pth", "r.yaml"])
def test_nothing_is_replaced_unasked(robust: Any, tmp_path: Path, blocker: str) -> None:
    made = robust("dinov2_vits14")
    (tmp_path / blocker).write_text("mine")
    with pytest.raises(UserError, match=rf"{blocker}' already exists: replace it with --overwrite"):
        convert(made.path, tmp_path / "r.pth", backbone_weights=made.weights)
    assert (tmp_path / blocker).read_text() == "mine"
    convert(made.path, tmp_path / "r.pth", backbone_weights=made.weights, overwrite=True)
    assert torch.load(tmp_path / "r.pth")["register_tokens"].shape == (1, 5, 64)


def test_overwriting_a_folder_leaves_other_files_alone(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    out = tmp_path / "model"
    out.mkdir()
    (out / "README.md").write_text("mine")
    convert(made.path, out, to="transformers", backbone_weights=made.weights)
    with pytest.raises(UserError, match=r"model.safetensors' already exists"):
        convert(made.path, out, to="transformers", backbone_weights=made.weights)
    convert(made.path, out, to="transformers", backbone_weights=made.weights, overwrite=True)
    assert names(out) == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "dino2"}, r"--to dino2: no such format. Did you mean 'dinov2'\? Valid: dinov2, dinov3, timm"),
        ({"dtype": "int8"}, r"--dtype int8: no such type. Valid: fp32, fp16, bf16"),
        (
            {"to": "timm", "image_size": 100},
            r"100 x 100 does not fit.*multiple of 14, its patch size. The closest is 98",
        ),
        ({"to": "timm", "image_size": (112, 224)}, r"112x224 is not square.*--to onnx"),
        ({"image_size": 224}, r"--image-size has no effect with --to dinov2"),
        ({"out": "r.onnx"}, r"written as .pth, .pt or .safetensors"),
        ({"out": "r.yaml"}, r"written as .pth, .pt or .safetensors"),
        ({"to": "timm", "out": "robust"}, r"'robust': this format is written as .pth, .pt or .safetensors"),
        ({"to": "timm", "out": "r.ckpt"}, r"written as .pth, .pt or .safetensors"),
        ({"to": "transformers", "out": "r.safetensors"}, r"this format is a folder: leave .safetensors out"),
        ({"to": "onnx", "out": "r.pth"}, r"the name of an ONNX file ends in \.onnx"),
        ({"model": "dinov2_vits15"}, r"no backbone 'dinov2_vits15'.*Did you mean 'dinov2_vits14'"),
        ({"out": "."}, r"'.' is a folder: name what to write in it"),
        ({"out": "folder"}, r"'folder' is a folder: name a file"),
        ({"to": "transformers", "out": "mine"}, r"'mine' is a file: name a folder"),
        ({"out": "mine/r.pth"}, r"'mine' is a file: name a folder"),
        ({"checkpoint": "none.pth"}, r"no defense file or run folder"),
        ({"backbone_weights": "none.pth"}, r"no file 'none.pth'"),
    ],
)
def test_wrong_input_is_named(
    robust: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    made = robust("dinov2_vits14")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine").write_text("mine")
    before = names(tmp_path)
    arguments = {"checkpoint": made.path, "out": "r.pth", "backbone_weights": made.weights, **arguments}
    with pytest.raises(UserError, match=message):
        convert(arguments.pop("checkpoint"), arguments.pop("out"), **arguments)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("to", "package"), [("transformers", "transformers"), ("onnx", "onnxruntime"), ("onnx", "onnxscript")]
)
def test_a_missing_package_is_named(
    robust: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, package: str
) -> None:
    made = robust("dinov2_vits14")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError, match=rf'{package}.*pip install "robustness-tokens\[convert\]"'):
        convert(made.path, tmp_path / {"onnx": "out.onnx"}.get(to, "out"), to=to, backbone_weights=made.weights)
