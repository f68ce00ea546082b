"""Small pictures on disk, and the `data` section of a config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtok.config.sections import DataConfig

WriteImages = Callable[..., None]


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """Write one differing 8 x 8 picture under each given path below `tmp_path`."""

    def write(*names: str) -> None:
        for number, name in enumerate(names):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name, "PNG")

    return write


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DataConfig]:
    """Build a `data` section with `root: tmp_path`."""

    def build(name: str, **options: object) -> DataConfig:
        # Not validated: these tests are about data sets and splits that a config may not even let through.
        return DataConfig.model_construct(name=name, **{"root": tmp_path, **options})

    return build
