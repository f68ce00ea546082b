"""A model so small that all of its weights can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import save_test_vit


@pytest.fixture
def small(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The settings with a model so small that all of its weights can be trained in a second."""
    save_test_vit(tmp_path / "vit.safetensors")
    return {
        **settings,
        "model": {"name": "timm:test_vit", "weights": str(tmp_path / "vit.safetensors"), "image_size": 32},
    }
