"""Resizing to a short side, crops, and masks that stay on their pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from rtok.data.framing import Framing
from rtok.data.loader import evaluation_batches
from rtok.data.source import FileSource


def striped(width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """A picture whose red channel is its mask, in coarse blocks."""
    values = np.add.outer(np.arange(height) // 8, np.arange(width) // 8).astype(np.uint8) % 5
    rgb = np.stack([values * 50, values * 0, values * 0], -1).astype(np.uint8)
    return Image.fromarray(rgb), values


@pytest.mark.parametrize(
    ("size", "shape"), [((40, 64), (102, 64)), ((64, 40), (64, 102)), ((64, 64), (64, 64)), ((30, 91), (194, 64))]
)
def test_the_short_side_gets_its_size_and_the_other_follows(size: tuple[int, int], shape: tuple[int, int]) -> None:
    picture, mask = striped(*size)
    framing = Framing("slide", 64, 48, seed=0)
    image = framing(picture, seed=1)
    assert image.shape == (3, *shape) and image.dtype == torch.uint8
    assert framing.mask(mask, "key").shape == shape


def test_crops_differ_between_pictures_and_cover_all_places() -> None:
    _, mask = striped(96, 64)
    framing = Framing("crop", 64, 48, seed=3)
    crops = [framing.mask(mask, str(key)) for key in range(200)]
    assert all(crop.shape == (48, 48) for crop in crops)
    assert torch.equal(crops[0], framing.mask(mask, "0"))
    tops = {int(t) for t in range(17)}
    found = {
        (top, left)
        for crop in crops
        for top in range(17)
        for left in range(49)
        if np.array_equal(crop.numpy(), mask[top : top + 48, left : left + 48])
    }
    assert {top for top, _ in found} == tops and {0, 48} <= {left for _, left in found}
    assert not all(
        torch.equal(crop, Framing("crop", 64, 48, seed=4).mask(mask, str(key))) for key, crop in enumerate(crops)
    )


@pytest.mark.parametrize("mode", ["slide", "crop"])
def test_a_mask_has_the_pixels_that_the_loader_showed(mode: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    masks = {}
    for i in range(4):
        picture, masks[f"p{i}.png"] = striped(70 + 7 * i, 64)  # not resized: the red channel stays the mask
        picture.save(tmp_path / f"p{i}.png")
    framing = Framing(mode, 64, 48, seed=5)  # type: ignore[arg-type]
    source = FileSource(tmp_path, list(masks))
    for batch in evaluation_batches(source, framing, batch_size=1, seed=5):
        (key,) = batch.keys
        assert torch.equal((batch.images[0, 0] * 255 / 50).round().long(), framing.mask(masks[key], key))


def test_an_empty_share_has_the_shape_of_a_crop(tmp_path) -> None:  # type: ignore[no-untyped-def]
    striped(64, 64)[0].save(tmp_path / "p.png")
    framing = Framing("crop", 64, 48, seed=0)
    batches = evaluation_batches(FileSource(tmp_path, ["p.png"]), framing, batch_size=2, process=1, processes=2, seed=0)
    assert [batch.images.shape for batch in batches] == [(0, 3, 48, 48)]
