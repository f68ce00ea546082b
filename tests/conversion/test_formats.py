"""Every family in every format that can hold it, loaded by the format's own library as its users would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from rtok.checkpoints import read_checkpoint
from rtok.conversion import convert
from rtok.conversion import onnx as onnx_format
from rtok.errors import UserError
from rtok.inspection import inspect
from rtok.models import load_backbone
from rtok.models.naming import dinov3
from rtok.models.weights import translate_back
from rtok.release import description

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
BAR = 1e-4


def by_timm(path: Path, name: str, images: Tensor, **kwargs: Any) -> Tensor:
    vit: Any = timm.create_model(name, num_classes=0, embed_dim=64, depth=2, num_heads=2, **kwargs).eval()
    vit.load_state_dict(load_file(path) if path.suffix == ".safetensors" else torch.load(path), strict=True)
    with torch.no_grad():
        found = vit.forward_features(images)
    return torch.cat([found[:, :1], found[:, vit.num_prefix_tokens :]], dim=1)


def by_transformers(path: Path, images: Tensor, registers: int) -> Tensor:
    model = transformers.AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    assert model.config.num_register_tokens == registers
    with torch.no_grad():
        found = model(pixel_values=images).last_hidden_state
    return torch.cat([found[:, :1], found[:, 1 + registers :]], dim=1)


def by_onnxruntime(path: Path, images: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(path)
    return [torch.from_numpy(array) for array in session.run(None, {"images": images.numpy()})]


@pytest.mark.parametrize(
    ("name", "architecture", "kwargs"),
    [
        ("dinov2_vits14", "vit_small_patch14_reg4_dinov2", {"reg_tokens": 5}),
        ("dinov2_vits14_reg", "vit_small_patch14_reg4_dinov2", {"reg_tokens": 9}),
        ("dinov2_vitg14", "vit_giant_patch14_reg4_dinov2", {"reg_tokens": 5, "mlp_ratio": 5.5}),
        ("dinov3_vits16", "vit_small_patch16_dinov3_qkvb", {"num_reg_tokens": 9}),
        ("dinov3_vits16plus", "vit_small_plus_patch16_dinov3_qkvb", {"num_reg_tokens": 9}),
        ("deit3_small_patch16_224", "deit3_small_patch16_224", {"reg_tokens": 5}),
        ("timm:vit_base_patch16_224", "vit_base_patch16_224", {"reg_tokens": 5, "no_embed_class": True}),
    ],
)
def test_timm_computes_our_features(
    robust: Any, tmp_path: Path, name: str, architecture: str, kwargs: dict[str, Any]
) -> None:
    made = robust(name)
    out = tmp_path / "robust.safetensors"
    done = convert(made.path, out, to="timm", backbone_weights=made.weights)
    size = made.model.spec.native_size
    images = made.images()
    found = by_timm(out, architecture, made.normalized(images), img_size=size, **kwargs)
    assert (found - made.features(images)).abs().max() < BAR
    assert done.difference < BAR and done.usage.startswith(f'timm.create_model("{done.usage.split(chr(34))[1]}"')


def test_timm_at_another_size_has_our_positions(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    convert(made.path, tmp_path / "r.pth", to="timm", backbone_weights=made.weights, image_size=112)
    images = made.images(size=112)
    found = by_timm(
        tmp_path / "r.pth", "vit_small_patch14_reg4_dinov2", made.normalized(images), img_size=112, reg_tokens=5
    )
    assert (found - made.features(images)).abs().max() < BAR


def test_the_metadata_says_how_timm_builds_it(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14_reg")
    out = tmp_path / "r.safetensors"
    convert(made.path, out, to="timm", backbone_weights=made.weights)
    about = description(read_checkpoint(out).metadata)
    assert about is not None
    name, kwargs = about["timm"]
    timm.create_model(name, **kwargs).load_state_dict(load_file(out), strict=True)


@pytest.mark.parametrize(
    ("name", "registers", "size"),
    [
        ("dinov2_vits14", 5, None),
        ("dinov2_vits14", 5, 112),
        ("dinov2_vits14_reg", 9, None),
        ("dinov2_vits14_reg", 9, 112),
        ("dinov2_vitg14_reg", 9, None),
        ("dinov3_vits16", 9, None),
        ("dinov3_vits16", 9, 64),
        ("dinov3_vith16plus", 9, None),
    ],
)
def test_transformers_computes_our_features(
    robust: Any, tmp_path: Path, name: str, registers: int, size: int | None
) -> None:
    made = robust(name)
    out = tmp_path / "robust"
    convert(made.path, out, to="transformers", backbone_weights=made.weights, image_size=size)
    images = made.images(size=size)
    found = by_transformers(out, made.normalized(images), registers)
    assert (found - made.features(images)).abs().max() < BAR
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_transformers_prepares_images_as_the_model_takes_them(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    done = convert(made.path, tmp_path / "r", to="transformers", backbone_weights=made.weights, image_size=56)
    pixels = torch.randint(0, 256, (3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "r")
    found = processor(images=[pixels.permute(1, 2, 0).numpy()], return_tensors="pt")["pixel_values"]
    assert torch.allclose(found, made.normalized(pixels[None] / 255), atol=1e-5)
    assert done.usage.endswith("AutoImageProcessor; patches from position 6 on")


def test_the_transformers_config_says_what_it_is(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14_reg")
    convert(made.path, tmp_path / "robust", to="transformers", backbone_weights=made.weights, dtype="bf16")
    config = json.loads((tmp_path / "robust" / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["rtok"]["registers"] == 4
    assert config["rtok"]["tokens"] == made.tokens.metadata
    with safe_open(tmp_path / "robust" / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["rtok"]) == config["rtok"]
    assert transformers.AutoConfig.from_pretrained(tmp_path / "robust").rtok == config["rtok"]


@pytest.mark.parametrize(
    ("name", "size"), [("dinov2_vits14", (28, 42)), ("dinov3_vits16", (64, 64)), ("openclip_vitb32", (64, 64))]
)
def test_onnxruntime_computes_our_features(robust: Any, tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    """By default for the size that the tokens were trained at."""
    made = robust(name, image_size=size)
    out = tmp_path / "robust.onnx"
    convert(made.path, out, to="onnx", backbone_weights=made.weights)
    session = onnxruntime.InferenceSession(out)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", 3, *size])]
    names = ["embedding"] if name.startswith("openclip") else ["cls", "patches"]
    assert [output.name for output in session.get_outputs()] == names
    about = description(session.get_modelmeta().custom_metadata_map)
    assert about is not None and about["tokens"] == made.tokens.metadata
    for count in (1, 2, 5):
        images = torch.rand(count, 3, *size)
        ours = made.features(images)
        expected = [ours] if ours.ndim == 2 else [ours[:, 0], ours[:, 1:]]
        found = by_onnxruntime(out, images)
        assert [f.shape for f in found] == [e.shape for e in expected]
        assert max((f - e).abs().max().item() for f, e in zip(found, expected, strict=True)) < BAR


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov3_vits16"])
def test_half_types_are_read_back_within_their_rounding(robust: Any, tmp_path: Path, name: str, dtype: str) -> None:
    made = robust(name)
    official = name.partition("_")[0]
    done = {
        to: convert(made.path, tmp_path / out, to=to, dtype=dtype, backbone_weights=made.weights)
        for to, out in ((official, "official.pth"), ("timm", "timm.pth"), ("transformers", "transformers"))
    }
    states = {
        official: torch.load(tmp_path / "official.pth"),
        "timm": torch.load(tmp_path / "timm.pth"),
        "transformers": load_file(tmp_path / "transformers" / "model.safetensors"),
    }
    for to, state in states.items():
        kept = {"rope_embed.periods"}
        assert {tensor.dtype for key, tensor in state.items() if key not in kept} == {TYPES[dtype]}
        # a rounded weight moves by at most half a unit in the last place, and features here by a few of them
        unit = torch.finfo(TYPES[dtype]).eps
        assert done[to].difference < BAR and 0 < done[to].rounding < 10 * unit
    if official == "dinov3":  # no weights: rounded, they would turn every angle
        torch.testing.assert_close(states["dinov3"]["rope_embed.periods"], 100.0 ** (torch.arange(8) / 8))
    images = made.images(2)
    exact = made.features(images)
    key = "num_reg_tokens" if official == "dinov3" else "reg_tokens"
    architecture = "vit_small_patch16_dinov3_qkvb" if official == "dinov3" else "vit_small_patch14_reg4_dinov2"
    registers = made.model.spec.registers + 5
    for found in (
        by_timm(tmp_path / "timm.pth", architecture, made.normalized(images), **{key: registers}),
        by_transformers(tmp_path / "transformers", made.normalized(images), registers),
    ):
        assert (found - exact).abs().max() < 10 * unit


def test_onnx_in_bf16_stores_halves_and_computes_in_float32(
    robust: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_format, "_LARGEST_FILE", 1000)  # instead of 2 GiB
    made = robust("deit3_small_patch16_224")
    out = tmp_path / "r.onnx"
    done = convert(made.path, out, to="onnx", dtype="bf16", backbone_weights=made.weights, image_size=32)
    assert done.files == [out, tmp_path / "r.onnx.data"]
    large = {w.name: w.data_type for w in onnx.load(out).graph.initializer if np.prod(w.dims) > 64}
    # the resampled positions are no numbers of the weights
    assert large.pop("backbone.vit.pos_embed") == onnx.TensorProto.FLOAT
    assert set(large.values()) == {onnx.TensorProto.BFLOAT16}
    halves = {key: tensor.bfloat16() for key, tensor in load_file(made.weights).items()}
    torch.save(halves, tmp_path / "half.pth")
    backbone = load_backbone(made.model.spec, weights=tmp_path / "half.pth", image_size=32)
    images = made.images(2, 32)
    expected = backbone(images, made.tokens.values.bfloat16().float())
    assert (by_onnxruntime(out, images)[1] - expected[:, 1:]).abs().max() < BAR
    assert 0 < done.rounding < 10 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov3_vits16"])
def test_onnx_in_fp16_computes_in_fp16(robust: Any, tmp_path: Path, name: str) -> None:
    made = robust(name)
    out = tmp_path / "r.onnx"
    convert(made.path, out, to="onnx", dtype="fp16", backbone_weights=made.weights)
    graph = onnx.shape_inference.infer_shapes(onnx.load(out)).graph
    assert [tensor.type.tensor_type.elem_type for tensor in (*graph.input, *graph.output)] == [1, 1, 1]  # float32
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv", "Attention")]
    assert len(products) >= 2 * 4 and {types.get(node.output[0]) for node in products} <= {onnx.TensorProto.FLOAT16}
    images = made.images(2)
    cls, patches = by_onnxruntime(out, images)
    found, exact = torch.cat([cls[:, None], patches], dim=1), made.features(images)
    assert 0 < (found - exact).abs().max() < 16 * torch.finfo(torch.float16).eps * exact.abs().max()


@pytest.mark.parametrize(
    ("name", "dtype"), [("dinov2_vits14", "fp32"), ("openclip_vitb32", "fp32"), ("dinov3_vits16", "bf16")]
)
def test_torch_exports_run_without_rtok(robust: Any, tmp_path: Path, name: str, dtype: str) -> None:
    made = robust(name)
    out = tmp_path / "r.pt2"
    done = convert(made.path, out, to="torch-export", dtype=dtype, backbone_weights=made.weights)
    code = f"""
import sys, torch
outputs = torch.export.load({str(out)!r}).module()(torch.load({str(tmp_path / "images.pt")!r}))
torch.save(outputs, {str(tmp_path / "outputs.pt")!r})
assert not {{"rtok", "timm"}} & set(sys.modules)
"""
    images = made.images(3)
    torch.save(images, tmp_path / "images.pt")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=120)
    outputs = torch.load(tmp_path / "outputs.pt")
    found = outputs[0] if len(outputs) == 1 else torch.cat([outputs[0][:, None], outputs[1]], dim=1)
    exact = made.features(images)
    bar = BAR if dtype == "fp32" else 16 * torch.finfo(torch.bfloat16).eps * exact.abs().max()
    assert (found - exact).abs().max() < bar and found.dtype == torch.float32
    assert done.usage.startswith("torch.export.load(")
    (about,) = inspect(out)
    assert about.facts["backbone"] == name


def test_numbers_that_a_type_cannot_hold_are_refused(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    state = load_file(made.weights)
    state["norm.weight"][3] = 1e5
    torch.save(state, tmp_path / "large.pth")
    torch.save({"rtokens": made.tokens.values}, tmp_path / "tokens.pt")
    arguments: Any = {"model": "dinov2_vits14", "backbone_weights": tmp_path / "large.pth", "dtype": "fp16"}
    with pytest.raises(UserError, match=r"'norm.weight' holds numbers up to 100000, .*: use bf16"):
        convert(tmp_path / "tokens.pt", tmp_path / "out.pth", **arguments)


def official_dinov3(made: Any, path: Path) -> dict[str, Tensor]:
    """An official file: its constants are such that only the file itself can be their source."""
    tensors = dict(made.model.vit.state_dict())
    state = translate_back(tensors, dinov3.official())
    mask = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(64)
    state |= {"mask_token": torch.rand(1, 64), "rope_embed.periods": torch.rand(8)}
    state |= {f"blocks.{i}.attn.qkv.bias_mask": mask for i in range(2)}
    torch.save(state, path)
    return state


def test_official_dinov3_tensors_are_kept_bit_for_bit(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov3_vits16")
    before = official_dinov3(made, tmp_path / "official.pth")
    out = tmp_path / "robust.pth"
    done = convert(made.path, out, to="dinov3", backbone_weights=tmp_path / "official.pth")
    after = torch.load(out, weights_only=True)
    registers = after.pop("storage_tokens")
    assert torch.equal(registers, torch.cat([before.pop("storage_tokens"), made.tokens.values], dim=1))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in after)
    assert done.files == [out]


def test_other_namings_become_official_dinov3(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov3_vits16")
    convert(made.path, tmp_path / "robust.pth", to="dinov3", backbone_weights=made.weights)
    state = torch.load(tmp_path / "robust.pth", weights_only=True)
    assert state.keys() == official_dinov3(made, tmp_path / "official.pth").keys()
    # the code base's formula: base 100, head width 32
    periods = 100.0 ** (2 * torch.arange(8) / 16)
    torch.testing.assert_close(state["rope_embed.periods"], periods)
    mask = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
    assert all(torch.equal(state[f"blocks.{i}.attn.qkv.bias_mask"], mask) for i in range(2))


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("deit3_small_patch16_224", "dinov2", r"only works for dinov2 backbones.*'deit3_small_patch16_224' \(deit3\)"),
        ("dinov2_vits14", "dinov3", r"only works for dinov3 backbones.*'dinov2_vits14'"),
        ("deit3_small_patch16_224", "transformers", r"no model with registers for 'deit3_small_patch16_224'"),
        ("openclip_vitb32", "timm", r"it normalizes registers before the first block.*--to onnx"),
        ("timm:deit_tiny_distilled_patch16_224", "timm", r"its class VisionTransformerDistilled has none"),
    ],
)
def test_a_format_that_cannot_hold_the_model_says_so(
    robust: Any, tmp_path: Path, name: str, to: str, message: str
) -> None:
    made = robust(name)
    out = tmp_path / ("out" if to == "transformers" else "out.pth")
    with pytest.raises(UserError, match=message):
        convert(made.path, out, to=to, backbone_weights=made.weights)
    assert not out.exists()
