"""Converted models as users of the formats' own libraries load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import timm
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

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
