"""Exports of PyTorch, run without rtok."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rtok.conversion import convert
from rtok.inspection import inspect
from tests.conversion.readers import BAR


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
