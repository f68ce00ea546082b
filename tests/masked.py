"""A small segmentation set, and configs that run on it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.models import Backbone, Features
from tests.tiny import save_test_vit

CLASSES = ("dark", "red", "light")
MODEL, WIDTH = "timm:test_vit", 64


def defended(backbone: Backbone, tokens: Tensor | None) -> Features:
    """The backbone with tokens (1, n, D) inside, or alone."""
    return backbone if tokens is None else RobustnessTokens(tokens).model(backbone)


@pytest.fixture(scope="session")
def masked_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six smooth pictures in two splits, with their brightness in three classes as masks, some pixels ignored."""
    root = tmp_path_factory.mktemp("set")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    random = np.random.default_rng(0)
    for i, split in enumerate(["train"] * 3 + ["test"] * 3):
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        picture = coarse.resize((40 + 3 * i, 36 + 5 * (i % 2)), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture).astype(int)
        mask = (pixels.sum(-1) // 256).clip(0, 2).astype(np.uint8)
        mask[:3, :5] = 255
        for folder, image in (("images", picture), ("masks", Image.fromarray(mask))):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            image.save(root / folder / split / f"p{i}.png")
    return root


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's `test_vit`: six blocks of width 64."""
    path = tmp_path_factory.mktemp("weights") / "test_vit.safetensors"
    save_test_vit(path)
    return path


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Tokens large enough to change the features."""
    path = tmp_path / "tokens.safetensors"
    tokens = RobustnessTokens.draw(3, WIDTH, std=1.0, backbone=MODEL, image_size=(32, 32))
    replace(tokens, config={"tokens": {"init_std": 1.0}}).save(path)  # what the control draws with
    return path


@pytest.fixture(scope="session")
def write_head() -> Callable[..., Path]:
    """Write a head in the format of DINOv2's published ones; `bn__bias=...` changes a tensor, None drops it."""
    return _write_head


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    """A head for the set with weights that make all classes occur."""
    return _write_head(tmp_path / "head.pth", WIDTH, 3)


def _write_head(path: Path, width: int, classes: int, **changes: Any) -> Path:
    g = torch.Generator().manual_seed(3)
    state = {
        "decode_head.conv_seg.weight": 0.1 * torch.randn(classes, width, 1, 1, generator=g),
        "decode_head.conv_seg.bias": 0.1 * torch.randn(classes, generator=g),
        "decode_head.bn.weight": 1 + 0.1 * torch.rand(width, generator=g),
        "decode_head.bn.bias": 0.1 * torch.randn(width, generator=g),
        "decode_head.bn.running_mean": 0.1 * torch.randn(width, generator=g),
        "decode_head.bn.running_var": 0.5 + torch.rand(width, generator=g),
        "decode_head.bn.num_batches_tracked": torch.tensor(7),
    }
    for name, value in changes.items():
        key = f"decode_head.{name.replace('__', '.')}"
        state.pop(key, None)
        if value is not None:
            state[key] = value
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, path)
    return path


@pytest.fixture
def seg_settings(
    small_weights: Path, masked_set: Path, token_file: Path, head_file: Path, tmp_path: Path
) -> dict[str, Any]:
    """A config with windows of 25 pixels, padded to 32, four or more of them an image."""
    return {
        "model": {"name": MODEL, "weights": str(small_weights), "image_size": 32},
        "tokens": str(token_file),
        "data": {"name": "folder-seg", "root": str(masked_set), "split": "test", "workers": 0},
        "head": {"type": "mmseg", "path": str(head_file)},
        "segmentation": {"short_side": 36, "window": 25, "stride": 17, "pictures": 0},
        "attack": {"preset": "standard", "steps": 2},
        "threats": ["transfer"],
        "control_draws": 2,
        "sanity": {"images": 0},
        "out": str(tmp_path / "run"),
    }


@pytest.fixture
def seg_config(seg_settings: dict[str, Any]) -> Callable[..., Config]:
    def build(**changes: Any) -> Config:
        return Config.model_validate({**seg_settings, **changes})

    return build
