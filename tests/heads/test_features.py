"""Extraction: rows equal a direct computation, and a killed pass goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.compute import Compute
from rtok.data.loader import Batch
from rtok.heads.features import Reading, extract_features
from rtok.heads.linear import PROBE, WIDEST
from tests.masked import defended

KEYS = [f"image{i}" for i in range(5)]


class Images:
    """Batches of two out of five images; remembers what it was asked for, and can fail like a killed run."""

    def __init__(self, images: Tensor, missing: str = "", stop_after: int = 9) -> None:
        self.images, self.missing, self.stop_after = images, missing, stop_after
        self.asked: list[set[str]] = []

    def __call__(self, done: set[str]) -> Any:
        self.asked.append(done)
        left = [i for i, key in enumerate(KEYS) if key not in done and key != self.missing]
        for number in range(0, len(left), 2):
            if number // 2 == self.stop_after:
                raise KeyboardInterrupt
            part = left[number : number + 2]
            keys = tuple(KEYS[i] for i in part)
            yield Batch(self.images[part], keys, None, keys, (0,) * len(part))


@pytest.fixture
def readings(tiny: Callable[..., Any]) -> dict[str, Reading]:
    backbone = tiny("dinov2_vits14", depth=4).load(image_size=28)
    tokens = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(0))
    return {"plain": Reading(backbone, PROBE), "robust": Reading(defended(backbone, tokens), WIDEST)}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def test_rows_equal_a_direct_computation(readings: dict[str, Reading], images: Tensor, tmp_path: Path) -> None:
    found = extract_features(readings, KEYS, Images(images), tmp_path, Compute.start())
    for name, reading in readings.items():
        expected = reading.layout.inputs(reading.model, images)
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-5)
    assert found["robust"].shape == (5, 5 * 64)


def test_a_killed_pass_goes_on(readings: dict[str, Reading], images: Tensor, tmp_path: Path) -> None:
    compute = Compute.start()
    with pytest.raises(KeyboardInterrupt):
        extract_features(readings, KEYS, Images(images, stop_after=1), tmp_path, compute)
    again = Images(images)
    found = extract_features(readings, KEYS, again, tmp_path, compute)
    assert again.asked == [{"image0", "image1"}]
    (tmp_path / "other").mkdir()
    whole = extract_features(readings, KEYS, Images(images), tmp_path / "other", compute)
    for name in readings:
        torch.testing.assert_close(found[name], whole[name])


def test_images_that_were_skipped_have_no_features(
    readings: dict[str, Reading], images: Tensor, tmp_path: Path
) -> None:
    found = extract_features(readings, KEYS, Images(images, missing="image3"), tmp_path, Compute.start())
    for features in found.values():
        assert features.isnan().any(1).tolist() == [False, False, False, True, False]
