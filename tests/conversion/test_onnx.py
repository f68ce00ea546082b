"""ONNX files, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from rtok.conversion import convert
from rtok.conversion import onnx as onnx_format
from rtok.models import load_backbone
from rtok.release import description
from tests.conversion.readers import BAR, by_onnxruntime


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
