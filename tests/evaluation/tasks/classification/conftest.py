"""Pictures of three classes, a small model, heads for it, and a config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtok.defenses import RobustnessTokens
from rtok.models import registry
from tests.evaluation.tasks.classification.helpers import ATTACK, COLORS, features, load, save_tokens


@pytest.fixture(scope="session")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and test pictures of three classes that differ by their color, with much noise on top."""
    root = tmp_path_factory.mktemp("labeled")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for name, color in COLORS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                coarse = np.clip(random.normal(color, 45, (4, 4, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return root


@pytest.fixture
def model(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A four-block ViT of width 64 that goes by the name of DINOv2's smallest."""
    small = tiny("dinov2_vits14", depth=4)
    monkeypatch.setitem(registry._BY_NAME, "dinov2_vits14", small.spec)
    return {"name": "dinov2_vits14", "weights": str(small.path), "image_size": 28}


@pytest.fixture
def head_files(tmp_path: Path, model: dict[str, Any], labeled: Path) -> dict[str, str]:
    """Heads that name the nearest class mean of the test pictures' plain or robust features: good, not perfect."""
    files = sorted(labeled.glob("test/*/*.png"))
    pixels = np.stack([np.array(Image.open(file).resize((28, 28), Image.Resampling.BILINEAR)) for file in files])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    tokens = RobustnessTokens.load(Path(save_tokens(tmp_path / "tokens.safetensors"))).values
    paths = {}
    for name, r in (("plain", None), ("robust", tokens)):
        means = features(load(model), images, r).unflatten(0, (3, 3)).mean(1)
        torch.save({"weight": means, "bias": -means.square().sum(1) / 2}, tmp_path / f"{name}.pth")
        paths[name] = str(tmp_path / f"{name}.pth")
    return paths


@pytest.fixture
def settings(model: dict[str, Any], labeled: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "model": model,
        "data": {"name": "folder", "root": str(labeled), "split": "test", "workers": 0},
        "tokens": save_tokens(tmp_path / "tokens.safetensors"),
        "attack": ATTACK,
        "head": {"type": "fit"},
        "batch_size": 4,
        "control_draws": 2,
        "sanity": {"images": 0},
        "out": str(tmp_path / "run"),
    }
