"""Turn 8-bit pictures of any size into 8-bit images of one size, and those into floats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rtok.errors import UserError
from rtok.seeding import image_seed

# The short side before the center crop, relative to the crop: 256 for 224, as is usual for ImageNet.
_CROP_MARGIN = 256 / 224
# Inception's random crop, as torchvision's RandomResizedCrop has it.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


class ImageTransform(Protocol):
    """Turns a picture into the image that a model sees."""

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of the images; where they differ, of those in an empty batch."""

    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Return the levels, uint8 (3, H, W), or float32 in [0, 1]; `seed` decides what is random."""


@dataclass(frozen=True)
class Transform:
    """Resize an RGB picture to `size` (height, width).

    Pillow resizes the 8-bit pixels, always with antialiasing. `resize` is one of

    - `squash`: bilinear to exactly `size`, ignoring the aspect ratio (as in the paper);
    - `crop`: bicubic, so that the short side is 256/224 of the size, then the center;
    - `random-crop`: 8 to 100 % of the area at an aspect ratio of 3/4 to 4/3, bicubic to `size`.

    `flip` mirrors it left to right with a chance of one half.
    """

    resize: str
    size: tuple[int, int]
    flip: bool = False

    def __post_init__(self) -> None:
        if self.resize not in _RESIZE:
            raise UserError(f"data.resize: '{self.resize}' is not valid; valid are {', '.join(_RESIZE)}.")

    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Return uint8 (3, H, W); `seed` decides where a random crop lies, and whether it is mirrored."""
        resized = _RESIZE[self.resize](image, self.size, seed)
        if self.flip and image_seed(seed, "", "flip") % 2:  # not the numbers that place the crop
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return levels(resized)


def levels(image: Image.Image) -> Tensor:
    """Return an 8-bit RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def floats(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1], on their device: of levels (uint8) the 255ths, and floats as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def _squash(image: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    return image.resize(size[::-1], Image.Resampling.BILINEAR)


def _center_crop(image: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    height, width = size
    # The smallest picture that covers this much; for a square size that is its short side.
    cover_height, cover_width = round(_CROP_MARGIN * height), round(_CROP_MARGIN * width)
    if cover_width * image.height >= cover_height * image.width:
        resized = (cover_width, max(cover_height, cover_width * image.height // image.width))
    else:
        resized = (max(cover_width, cover_height * image.width // image.height), cover_height)
    left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
    return image.resize(resized, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))


def _random_crop(image: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    box = random_box(image.width, image.height, torch.Generator().manual_seed(seed))
    return image.crop(box).resize(size[::-1], Image.Resampling.BICUBIC)


def random_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Choose (left, top, right, bottom) of a random part of a picture.

    Area and log-aspect are uniform. When ten boxes in a row do not fit into the picture, the largest central one with a
    permitted aspect ratio is taken. Unlike torchvision's `RandomResizedCrop.get_params` this takes a generator (and so
    leaves the global one alone), and it rounds in float64.
    """

    def uniform(low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high, generator=generator).item()

    for _ in range(_ATTEMPTS):
        area = width * height * uniform(*_AREA)
        aspect = math.exp(uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - w + 1, (1,), generator=generator))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * _ASPECT[1])))
    h = min(height, max(1, round(width / _ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


_RESIZE: dict[str, Callable[[Image.Image, tuple[int, int], int], Image.Image]] = {
    "squash": _squash,
    "crop": _center_crop,
    "random-crop": _random_crop,
}
