"""Every command that writes a run, as a config of seconds on a tiny model, and a process that runs them at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.reliability.warm import Warm
from tests.tiny import save_test_vit

MODEL, WIDTH = "timm:test_vit", 64


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, tokens, a set with classes and one with masks."""

    from rtok.defenses import RobustnessTokens

    root = tmp_path_factory.mktemp("inputs")
    save_test_vit(root / "vit.safetensors")
    tokens = RobustnessTokens.draw(3, WIDTH, std=1.0, backbone=MODEL, image_size=(32, 32))
    tokens.save(root / "tokens.safetensors")
    random = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 6)):
        for i in range(count):
            coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            picture = coarse.resize((40, 36), Image.Resampling.BICUBIC)
            mask = Image.fromarray((np.asarray(picture).astype(int).sum(-1) // 256).clip(0, 2).astype(np.uint8))
            places = {
                f"classes/{split}/{'ab'[i % 2]}": picture,
                f"masked/images/{split}": picture,
                f"masked/masks/{split}": mask,
            }
            for place, image in places.items():
                (root / place).mkdir(parents=True, exist_ok=True)
                image.save(root / place / f"p{i}.png")
    (root / "masked" / "classes.txt").write_text("dark\nred\nlight\n")
    return root


@pytest.fixture(scope="session")
def configs(inputs: Path) -> dict[str, dict[str, Any]]:
    """By command, a config with relative `out`: the folder `run` where the command is started."""
    common: dict[str, Any] = {
        "model": {"name": MODEL, "weights": str(inputs / "vit.safetensors"), "image_size": 32},
        "data": {"name": "folder", "root": str(inputs / "classes"), "split": "test", "workers": 0},
        "attack": {"preset": "standard", "steps": 3},
        "batch_size": 2,
        "control_draws": 2,
        "sanity": {"images": 0},  # these checks keep no state, and would take longer than the run
        "out": "run",
    }
    tokens = {"tokens": str(inputs / "tokens.safetensors")}
    masked = {
        "data": {"name": "folder-seg", "root": str(inputs / "masked"), "split": "test", "workers": 0},
        "segmentation": {"short_side": 36, "window": 32, "stride": 20, "pictures": 1},
        "head": {"type": "fit", "steps": 4, "batch_size": 2, "features": "plain"},
    }
    return {
        "train": {
            **common,
            "tokens": {"count": [2, 3]},
            "train": {"steps": 12, "batch_size": 4, "checkpoint_every": 2},
        },
        "attack": common,
        "eval-features": {**common, **tokens},
        "eval-class": {**common, **tokens, "threats": ["transfer"], "head": {"type": "fit"}},
        "eval-seg": {**common, **tokens, "threats": ["transfer"], **masked},
    }


@pytest.fixture
def place(configs: dict[str, dict[str, Any]], tmp_path: Path) -> Any:
    """Make a folder with the config of a command in it."""

    def make(command: str, name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({**configs[command], **changes}))
        return folder

    return make
