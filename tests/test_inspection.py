"""`rtok.inspect` on every kind of file that rtok reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtok.conversion import convert
from rtok.defenses import RobustnessTokens
from rtok.defenses.robustify import robustify
from rtok.errors import UserError
from rtok.inspection import inspect
from rtok.models import registry

VALUES = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def known(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a tiny model that the registry knows under the name of the real one."""

    def make(name: str) -> Any:
        model = tiny(name)
        monkeypatch.setitem(registry._BY_NAME, name, model.spec)
        return model

    return make


def test_a_token_file(tmp_path: Path) -> None:
    config = {"train": {"steps": 50}}
    tokens = RobustnessTokens(
        VALUES,
        backbone="dinov2_vits14",
        image_size=(224, 112),
        config=config,
        version="0.1.0",
        fingerprint="0123456789abcdef",
    )
    tokens.save(tmp_path / "rtokens.safetensors")
    (found,) = inspect(tmp_path / "rtokens.safetensors")
    assert found.kind == "robustness tokens"
    assert found.facts == {
        "backbone": "dinov2_vits14",
        "weights": "0123456789abcdef",
        "tokens": "5 of width 64",
        "trained at": "224 x 112 px",
        "made by": "rtok 0.1.0",
    }
    assert found.tensors == [("rtokens", "(1, 5, 64)", "float32")] and found.config == config
    tokens.save(tmp_path / "rtokens-10.safetensors")
    assert [one.path.name for one in inspect(tmp_path)] == ["rtokens.safetensors", "rtokens-10.safetensors"]


def test_the_originals_files(known: Any, tmp_path: Path) -> None:
    model = known("dinov2_vits14")
    torch.save({"rtokens": VALUES}, tmp_path / "rtokens.pt")
    (found,) = inspect(tmp_path / "rtokens.pt")
    assert (found.kind, found.facts["backbone"]) == ("robustness tokens", "not named in the file")
    whole = {f"module.model.{key}": tensor for key, tensor in load_file(model.path).items()}
    torch.save({"state_dict": {**whole, "module.rtokens": VALUES}, "epoch": 3}, tmp_path / "last.ckpt")
    (found,) = inspect(tmp_path / "last.ckpt")
    assert found.kind == "whole model with robustness tokens"
    assert found.facts == {"backbone": "dinov2_vits14 (DINOv2 naming)", "tokens": "5 of width 64"}
    assert ("model.blocks.*.attn.qkv.weight  x 2", "(192, 64)", "float32") in found.tensors


def test_a_saved_model_of_robustify(tiny: Any, tmp_path: Path) -> None:
    made = RobustnessTokens(VALUES, version="0.1.0", config={"seed": 1})
    torch.save(robustify(tiny("timm:vit_base_patch16_224").vit, made).state_dict(), tmp_path / "model.pth")
    (found,) = inspect(tmp_path / "model.pth")
    assert found.kind == "whole model with robustness tokens (rtok.robustify)"
    assert found.facts["made by"] == "rtok 0.1.0" and found.config == {"seed": 1}


@pytest.mark.parametrize("to", ["dinov2", "timm", "transformers", "onnx"])
def test_converted_files(known: Any, tmp_path: Path, to: str) -> None:
    model = known("dinov2_vits14_reg")
    tokens = RobustnessTokens(VALUES, backbone=model.spec.name, image_size=(28, 28), config={"seed": 1})
    replace(tokens, fingerprint=model.load().fingerprint()).save(tmp_path / "rtokens.safetensors")
    out = tmp_path / {"onnx": "robust.onnx", "transformers": "robust"}.get(to, "robust.pth")
    convert(tmp_path / "rtokens.safetensors", out, to=to, backbone_weights=model.path, dtype="bf16")
    (found,) = inspect(out)
    assert found.kind == f"robust model ({to} format)" and found.config == {"seed": 1}
    facts = found.facts
    assert (facts["backbone"], facts["weights"]) == ("dinov2_vits14_reg", model.load().fingerprint())
    assert facts["tokens"] == "5 of width 64, after 4 registers of the model"
    assert (facts["trained at"], facts["stored as"]) == ("28 x 28 px", "bf16")
    if to == "onnx":
        assert found.tensors[0] == ("images", "(batch, 3, 28, 28)", "input")
        assert facts["made for"] == "28 x 28 px"
    else:
        assert {kind for _, _, kind in found.tensors} == {"bfloat16"}
    if to == "timm":
        assert facts["timm"].startswith("vit_small_patch14_reg4_dinov2(") and "reg_tokens=9" in facts["timm"]


@pytest.mark.parametrize("name", ["dinov2_vits14_reg", "openclip_vitb32", "dinov3_vits16"])
def test_backbone_weights_are_recognized(known: Any, name: str) -> None:
    (found,) = inspect(known(name).path)
    assert (found.kind, found.facts) == ("backbone weights", {"backbone": f"{name} (timm naming)"})


def test_official_weights_are_recognized_and_others_not(tiny: Any, tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "dinov2_reg4.pth"
    assert inspect(golden)[0].facts == {"backbone": "none that `rtok models` lists"}  # it is a tiny one
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BY_NAME, "dinov2_vits14_reg", tiny("dinov2_vits14_reg").spec)
        assert inspect(golden)[0].facts == {"backbone": "dinov2_vits14_reg (DINOv2 naming)"}


@pytest.mark.parametrize(
    ("tensors", "metadata", "kind", "facts"),
    [
        (
            {"weight": torch.zeros(7, 128), "bias": torch.zeros(7)},
            {"format": "rtok-head-1", "features": "plain"},
            "linear head",
            {"head": "7 classes, inputs of width 128", "features": "plain"},
        ),
        (
            {f"classifiers_dict.c{i}.linear.{x}": torch.zeros(3, 3) for i in "12" for x in ("weight", "bias")},
            {},
            "linear heads of DINOv2's evaluation",
            {"heads": "2"},
        ),
        (
            {"decode_head.conv_seg.weight": torch.zeros(150, 64, 1, 1), "decode_head.bn.bias": torch.zeros(64)},
            {},
            "segmentation head",
            {"head": "150 classes, features of width 64"},
        ),
    ],
)
def test_heads(tmp_path: Path, tensors: Any, metadata: Any, kind: str, facts: Any) -> None:
    save_file(tensors, tmp_path / "head.safetensors", metadata=metadata)
    (found,) = inspect(tmp_path / "head.safetensors")
    assert (found.kind, found.facts) == (kind, facts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "no file"),
        ("none.onnx", None, "no file"),
        ("torn.pth", b"PK..", "cannot be read"),
        ("torn.onnx", b"PK..", "damaged or not an ONNX file"),
        ("empty.safetensors", json.dumps({}).encode(), "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        inspect(tmp_path / name)
    with pytest.raises(UserError, match="holds no defense"):
        (tmp_path / "folder").mkdir()
        inspect(tmp_path / "folder")
