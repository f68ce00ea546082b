"""A run of eval-features that takes a second: a four-block ViT of width 64 on seven small pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtok.defenses import RobustnessTokens
from rtok.models import registry


@pytest.fixture
def small(tiny: Callable[..., Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config; its tokens change the features, though nobody trained them. The checks of `sanity` are off."""
    model = tiny("dinov2_vits14", depth=4)
    monkeypatch.setitem(registry._BY_NAME, "dinov2_vits14", model.spec)
    return {
        "model": {"name": "dinov2_vits14", "weights": str(model.path), "image_size": 28},
        "data": {"name": "folder", "root": str(pictures), "workers": 0},
        "tokens": _save_tokens(tmp_path / "tokens.safetensors"),
        "attack": {"preset": "standard", "steps": 3},
        "batch_size": 4,
        "control_draws": 2,
        "sanity": {"images": 0},
        "out": str(tmp_path / "run"),
    }


@pytest.fixture
def make_tokens(tmp_path: Path) -> Callable[[str, int], str]:
    """Tokens for the small model, by name and seed; those of seed 0 are the victim's."""

    def make(name: str, seed: int) -> str:
        return _save_tokens(tmp_path / f"{name}.safetensors", seed)

    return make


def _save_tokens(path: Path, seed: int = 0) -> str:
    RobustnessTokens.draw(3, 64, std=0.5, seed=seed, backbone="dinov2_vits14").save(path)
    return str(path)
