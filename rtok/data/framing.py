"""What the model sees of a picture and its mask: all of it, resized, or one random crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rtok.data.transforms import levels
from rtok.seeding import image_seed


@dataclass(frozen=True)
class Framing:
    """Resize so that the short side has `short_side` pixels; in mode `crop`, cut out one `window` at random.

    Pictures are resized bilinearly on 8-bit pixels (by Pillow, with antialiasing); masks take the nearest pixel. The
    crop derives from (seed, key), so it is the same in every run and process.
    """

    mode: Literal["slide", "crop"]
    short_side: int
    window: int
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of a crop, and of the images in an empty batch."""
        return self.window, self.window

    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Return uint8 (3, H, W); `seed`, the loader's seed for this picture, decides the crop."""
        return levels(self._framed(image, Image.Resampling.BILINEAR, seed))

    def mask(self, mask: NDArray[np.uint8], key: str) -> Tensor:
        """Return the labels (H, W), int64, of exactly the pixels that `__call__` returned for this key."""
        seed = image_seed(self.seed, key, "transform", 0)  # the seed that the loader gives a transform
        framed = self._framed(Image.fromarray(mask), Image.Resampling.NEAREST, seed)
        return torch.from_numpy(np.array(framed)).long()

    def _framed(self, picture: Image.Image, how: Image.Resampling, seed: int) -> Image.Image:
        scale = self.short_side / min(picture.size)
        width, height = (max(self.short_side, int(side * scale + 0.5)) for side in picture.size)
        resized = picture.resize((width, height), how)
        if self.mode == "slide":
            return resized
        generator = torch.Generator().manual_seed(seed)
        left, top = (int(torch.randint(side - self.window + 1, (), generator=generator)) for side in (width, height))
        return resized.crop((left, top, left + self.window, top + self.window))
