"""Tokens to evaluate."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtok.defenses import RobustnessTokens


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Tokens large enough to change the features; eval does not care that nobody trained them."""
    path = tmp_path / "tokens.safetensors"
    drawn = RobustnessTokens.draw(3, 384, std=0.5, backbone="dinov2_vits14", image_size=(28, 28))
    drawn.save(path)
    return path
