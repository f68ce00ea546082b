"""Settings whose inputs may be changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rtok.defenses import RobustnessTokens


@pytest.fixture
def inputs(settings: dict[str, Any], pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """The settings of an evaluation whose images, weights and tokens are its own copies."""
    shutil.copytree(pictures, tmp_path / "pictures")
    weights = tmp_path / "weights.safetensors"
    shutil.copy(settings["model"]["weights"], weights)
    RobustnessTokens.draw(3, 384, std=0.5, backbone="dinov2_vits14").save(tmp_path / "tokens.safetensors")
    model, data = ({**settings[key]} for key in ("model", "data"))
    model["weights"], data["root"] = str(weights), str(tmp_path / "pictures")
    more = {"threats": ["transfer"], "control_draws": 1, "batch_size": 2}
    return {**settings, "model": model, "data": data, "defense": str(tmp_path / "tokens.safetensors"), **more}
