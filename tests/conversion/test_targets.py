"""A format that cannot hold a model says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rtok.conversion import convert
from rtok.errors import UserError


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
