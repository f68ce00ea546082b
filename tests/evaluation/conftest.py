"""A run of eval-features that takes a second: a four-block ViT of width 64 on seven small pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtok.models import registry
from rtok.tokens import RobustnessTokens


@pytest.fixture
def small(
    tiny: Callable[..., Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A config; its tokens change the features, though nobody trained them. The checks of `sanity` are off."""
    model = tiny("dinov2_vits14", depth=4)
    monkeypatch.setitem(registry._BY_NAME, "dinov2_vits14", model.spec)
    return {
        "model": {"name": "dinov2_vits14", "weights": str(model.path), "image_size": 28},
        "data": {"name": "folder", "root": str(pictures), "workers": 0},
        "tokens": save_tokens(tmp_path / "tokens.safetensors"),
        "attack": {"preset": "standard", "steps": 3},
        "batch_size": 4,
        "control_draws": 2,
        "sanity": {"images": 0},
        "out": str(tmp_path / "run"),
    }


def save_tokens(path: Path, count: int = 3, seed: int = 0) -> str:
    """Tokens for the small model."""
    RobustnessTokens.initialise(count, 64, std=0.5, seed=seed, backbone="dinov2_vits14").save(path)
    return str(path)
