"""Pictures come back from their PNG to the last bit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rtok.attacks.png import encode_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (300, 2, 3)])
@pytest.mark.parametrize("levels", [1, 9, 256])
def test_pixels_come_back(shape: tuple[int, int, int], levels: int) -> None:
    pixels = RNG.integers(0, levels, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        image.verify()
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", shape[1::-1])
        assert (np.asarray(image) == pixels).all()


def test_a_noisy_picture_is_about_as_small_as_others_make_it() -> None:
    ramp = np.linspace(0, 200, 64)[:, None, None] + np.linspace(0, 40, 64)[None, :, None] + np.zeros(3)
    pixels = (ramp + RNG.integers(-8, 9, ramp.shape)).clip(0, 255).astype(np.uint8)
    theirs = io.BytesIO()
    Image.fromarray(pixels).save(theirs, format="PNG")
    assert len(encode_png(pixels)) < 1.1 * len(theirs.getvalue())
