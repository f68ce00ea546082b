"""The DINOv2 format: golden files of the code base, its config, and official weights bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from rtok.conversion import convert
from rtok.defenses import RobustnessTokens
from rtok.models import registry

GOLDEN = Path(__file__).parent.parent / "golden"
# golden file: the model it is a tiny member of, and what differs from that member
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("dinov2_vits14", {}),
    "reg4": ("dinov2_vits14_reg", {}),
    "swiglu": ("dinov2_vitg14", {"mlp_ratio": 5.5}),
}


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a tiny official checkpoint known under a model's name; return its path, inputs and outputs."""

    def make(kind: str) -> tuple[Path, dict[str, Tensor]]:
        name, kwargs = MEMBERS[kind]
        tiny = {"embed_dim": 64, "depth": 2, "num_heads": 2, **kwargs}
        monkeypatch.setitem(registry._BY_NAME, name, replace(registry.find(name), dim=64, timm_kwargs=tiny))
        io = load_file(GOLDEN / f"dinov2_{kind}_io.safetensors")
        RobustnessTokens(io["tokens"], backbone=name).save(tmp_path / "rtokens.safetensors")
        return GOLDEN / f"dinov2_{kind}.pth", io

    return make


@pytest.mark.parametrize("kind", MEMBERS)
def test_the_code_base_computes_our_features_from_the_file_and_its_config(
    golden: Any, tmp_path: Path, kind: str
) -> None:
    official, io = golden(kind)
    out = tmp_path / "robust.pth"
    done = convert(tmp_path / "rtokens.safetensors", out, backbone_weights=official)
    assert done.difference < 1e-4
    state = torch.load(out, weights_only=True)
    config = yaml.safe_load(out.with_suffix(".yaml").read_text())
    for size in (112, 224):
        found = dinov2(state, config, io[f"input_{size}"], heads=2)
        assert (found[:, 0] - io[f"robust_cls_{size}"]).abs().max() < 1e-4
        assert (found[:, 1:] - io[f"robust_patches_{size}"]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", MEMBERS)
def test_the_reference_of_this_test_is_the_code_base(kind: str) -> None:
    state = torch.load(GOLDEN / f"dinov2_{kind}.pth", weights_only=True)
    state.setdefault("register_tokens", torch.zeros(1, 0, 64))
    registers = state["register_tokens"].shape[1]
    student = {
        "patch_size": 14,
        "num_register_tokens": registers,
        "interpolate_antialias": registers > 0,
        "interpolate_offset": 0.0 if registers else 0.1,
        "ffn_layer": "swiglufused" if kind == "swiglu" else "mlp",
    }
    io = load_file(GOLDEN / f"dinov2_{kind}_io.safetensors")
    for size in (112, 224):
        found = dinov2(state, {"student": student}, io[f"input_{size}"], heads=2)
        assert (found[:, 0] - io[f"plain_cls_{size}"]).abs().max() < 1e-5
        assert (found[:, 1:] - io[f"plain_patches_{size}"]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", MEMBERS)
def test_official_tensors_are_kept_bit_for_bit(golden: Any, tmp_path: Path, kind: str) -> None:
    official, io = golden(kind)
    out = tmp_path / "robust.pth"
    convert(tmp_path / "rtokens.safetensors", out, backbone_weights=official)
    before, after = (torch.load(path, weights_only=True) for path in (official, out))
    registers = after.pop("register_tokens")
    own = before.pop("register_tokens", torch.zeros(1, 0, 64))
    assert torch.equal(registers, torch.cat([own, io["tokens"]], dim=1))
    assert "mask_token" in before and after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) and after[key].dtype == before[key].dtype for key in after)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "dinov2_vits14",
            {
                "arch": "vit_small",
                "patch_size": 14,
                "num_register_tokens": 5,
                "interpolate_antialias": False,
                "interpolate_offset": 0.1,
            },
        ),
        (
            "dinov2_vitg14_reg",
            {
                "arch": "vit_giant2",
                "patch_size": 14,
                "num_register_tokens": 9,
                "interpolate_antialias": True,
                "interpolate_offset": 0.0,
                "ffn_layer": "swiglufused",
            },
        ),
    ],
)
def test_the_config_says_what_the_code_base_needs(
    robust: Any, tmp_path: Path, name: str, expected: dict[str, Any]
) -> None:
    made = robust(name)
    convert(made.path, tmp_path / "robust.pth", backbone_weights=made.weights)
    config = yaml.safe_load((tmp_path / "robust.yaml").read_text())
    assert config == {"student": expected, "crops": {"global_crops_size": 518, "local_crops_size": 98}}


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitg14"])
def test_weights_in_other_namings_become_official(robust: Any, tmp_path: Path, name: str) -> None:
    """timm's files have no mask token, which the code base's strict loading asks for."""
    made = robust(name)
    out = tmp_path / "robust.pth"
    convert(made.path, out, backbone_weights=made.weights)
    state = torch.load(out, weights_only=True)
    assert torch.equal(state["mask_token"], torch.zeros(1, 64))
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 64)
    config = yaml.safe_load(out.with_suffix(".yaml").read_text())
    for size in (518, 112):
        images = made.images(2, size)
        found = dinov2(state, config, made.normalized(images), heads=2)
        assert (found - made.features(images)).abs().max() < 1e-4


def dinov2(state: Mapping[str, Tensor], config: Mapping[str, Any], images: Tensor, *, heads: int) -> Tensor:
    """Normalized class and patch tokens (B, 1+P, D) of normalized images (B, 3, H, W)."""
    student = config["student"]
    weight = state["patch_embed.proj.weight"]
    x = F.conv2d(images, weight, state["patch_embed.proj.bias"], stride=student["patch_size"])
    B, _, h, w = x.shape
    x = torch.cat([state["cls_token"].expand(B, -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + _positions(state["pos_embed"], h, w, student)
    registers = state["register_tokens"].expand(B, -1, -1)
    assert registers.shape[1] == student["num_register_tokens"]
    x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    for i in range(depth):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items() if k.startswith(f"blocks.{i}.")}
        x = x + block["ls1.gamma"] * _attention(block, _norm(x, block, "norm1"), heads)
        x = x + block["ls2.gamma"] * _mlp(block, _norm(x, block, "norm2"), student.get("ffn_layer", "mlp"))
    x = _norm(x, state, "norm")
    return torch.cat([x[:, :1], x[:, 1 + registers.shape[1] :]], dim=1)


def _positions(positions: Tensor, h: int, w: int, student: Mapping[str, Any]) -> Tensor:
    side = round((positions.shape[1] - 1) ** 0.5)
    if (h, w) == (side, side):
        return positions
    grid = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    offset = student["interpolate_offset"]
    size: dict[str, Any] = {"size": (h, w)}
    if offset:
        size = {"scale_factor": ((h + offset) / side, (w + offset) / side)}
    grid = F.interpolate(grid, mode="bicubic", antialias=student["interpolate_antialias"], **size)
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, h * w, -1)], dim=1)


def _linear(x: Tensor, block: Mapping[str, Tensor], name: str) -> Tensor:
    return x @ block[f"{name}.weight"].T + block[f"{name}.bias"]


def _norm(x: Tensor, block: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], block[f"{name}.weight"], block[f"{name}.bias"], eps=1e-6)


def _attention(block: Mapping[str, Tensor], x: Tensor, heads: int) -> Tensor:
    B, N, D = x.shape
    q, k, v = _linear(x, block, "attn.qkv").reshape(B, N, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(-2, -1) * (D // heads) ** -0.5).softmax(dim=-1)
    return _linear((attention @ v).transpose(1, 2).reshape(B, N, D), block, "attn.proj")


def _mlp(block: Mapping[str, Tensor], x: Tensor, kind: str) -> Tensor:
    if kind == "mlp":
        return _linear(F.gelu(_linear(x, block, "mlp.fc1")), block, "mlp.fc2")
    assert kind == "swiglufused"
    gate, value = _linear(x, block, "mlp.w12").chunk(2, dim=-1)
    return _linear(F.silu(gate) * value, block, "mlp.w3")
