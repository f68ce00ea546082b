from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as reference

from rtok.data.transforms import Transform, floats, random_box
from rtok.errors import UserError


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)


@pytest.mark.parametrize("resize", ["squash", "crop", "random-crop"])
@pytest.mark.parametrize("shape", [(300, 200), (31, 57), (1, 1), (5, 400)])
@pytest.mark.parametrize("size", [(56, 56), (28, 70)])
def test_the_result_is_an_8_bit_image_of_the_size(resize: str, shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = Transform(resize, size)(picture(*shape), 0)
    assert image.shape == (3, *size) and image.dtype == torch.uint8 and image.is_contiguous()


def test_floats_are_255ths_and_stay_what_they_are() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(floats(every), torch.arange(256, dtype=torch.float32) / 255)
    assert every[-1] == 255
    assert floats(given := torch.rand(3)) is given


@pytest.mark.parametrize(("shape", "size"), [((300, 200), (56, 84)), ((20, 30), (56, 56))])
def test_squash_is_pillows_bilinear(shape: tuple[int, int], size: tuple[int, int]) -> None:
    expected = as_tensor(picture(*shape).resize(size[::-1], Image.Resampling.BILINEAR))
    assert torch.equal(Transform("squash", size)(picture(*shape), 0), expected)


def test_shrinking_is_antialiased() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8)[None, :, None], (64, 32, 3)))
    image = Transform("squash", (8, 8))(stripes, 0)
    assert (floats(image) - 0.5).abs().max() < 0.05  # without, the stripes alias to black or white


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (31, 57), (500, 333), (256, 256), (97, 96)])
@pytest.mark.parametrize("side", [32, 98, 112, 224])
def test_crop_is_torchvisions(shape: tuple[int, int], side: int) -> None:
    expected = reference.Compose(
        [reference.Resize(round(256 / 224 * side), InterpolationMode.BICUBIC), reference.CenterCrop(side)]
    )
    assert torch.equal(Transform("crop", (side, side))(picture(*shape), 0), as_tensor(expected(picture(*shape))))


def test_crop_to_224_resizes_the_short_side_to_256() -> None:
    image = picture(400, 300)
    expected = image.resize((341, 256), Image.Resampling.BICUBIC).crop((58, 16, 282, 240))
    assert torch.equal(Transform("crop", (224, 224))(image, 0), as_tensor(expected))


def test_crop_keeps_the_aspect_when_the_size_is_no_square() -> None:
    # A disc stays a disc: 280 x 140 is cut from a square that is scaled to 320 x 320.
    y, x = np.mgrid[:200, :200]
    disc = ((x - 99.5) ** 2 + (y - 99.5) ** 2 < 40**2).astype(np.uint8) * 255
    image = Transform("crop", (140, 280))(Image.fromarray(np.dstack([disc] * 3)), 0)[0] > 127
    assert abs(int(image.any(0).sum()) - 128) <= 1 and abs(int(image.any(1).sum()) - 128) <= 1


@pytest.mark.parametrize("shape", [(300, 200), (64, 64), (900, 20), (20, 900)])
def test_random_boxes_are_torchvisions(shape: tuple[int, int]) -> None:
    width, height = shape
    for seed in range(50):
        torch.manual_seed(seed)
        drawn = reference.RandomResizedCrop(8, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)).make_params([picture(*shape)])
        box = random_box(width, height, torch.Generator().manual_seed(seed))
        expected = (drawn["left"], drawn["top"], drawn["left"] + drawn["width"], drawn["top"] + drawn["height"])
        assert box == expected


def test_random_crop_is_the_box_resized() -> None:
    image = picture(300, 200)
    box = random_box(300, 200, torch.Generator().manual_seed(7))
    expected = as_tensor(image.crop(box).resize((70, 42), Image.Resampling.BICUBIC))
    assert torch.equal(Transform("random-crop", (42, 70))(image, 7), expected)


def test_only_the_seed_decides_a_random_crop() -> None:
    transform, image = Transform("random-crop", (42, 42)), picture(300, 200)
    first = transform(image, 1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(first, transform(image, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, transform(image, 2))


def test_an_unknown_resize_is_refused() -> None:
    with pytest.raises(UserError, match="'stretch' is not valid; valid are squash, crop, random-crop"):
        Transform("stretch", (8, 8))


@pytest.mark.parametrize("resize", ["squash", "random-crop"])
def test_half_of_the_images_are_mirrored_whatever_their_crop(resize: str) -> None:
    image = picture(40, 30)
    plain, flipped = Transform(resize, (28, 28)), Transform(resize, (28, 28), flip=True)
    mirrored = 0
    for seed in range(200):
        expected, found = plain(image, seed), flipped(image, seed)
        mirrored += not torch.equal(found, expected)
        assert torch.equal(found, expected) or torch.equal(found, expected.flip(2))
    assert 75 <= mirrored <= 125
