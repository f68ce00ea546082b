"""A model so small that all of its weights can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture
def small(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The settings with a model so small that all of its weights can be trained in a second."""
    vit = timm.create_model("test_vit", num_classes=0)
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in vit.state_dict().items()}
    save_file(state, tmp_path / "vit.safetensors")
    return {
        **settings,
        "model": {"name": "timm:test_vit", "weights": str(tmp_path / "vit.safetensors"), "image_size": 32},
    }
