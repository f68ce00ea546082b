"""`digits`: scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, ten classes. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rtok.data.folder import check_split
from rtok.data.source import Ungrouped
from rtok.errors import UserError
from rtok.seeding import image_seed
from rtok.version import install

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

SPLITS = ("train", "test")
CLASS_NAMES = tuple("0123456789")


@dataclass(frozen=True)
class Digits(Ungrouped):
    """8-bit pictures (N, 8, 8), white on black, with keys such as `digits/00001` (scikit-learn's order)."""

    pixels: NDArray[np.uint8]
    keys: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str] = CLASS_NAMES

    def read(self, index: int) -> Image.Image:
        """Return one digit, gray as RGB, 8 x 8."""
        return Image.fromarray(self.pixels[index]).convert("RGB")


def open_digits(config: DataConfig) -> Digits:
    """Open the `train` digits (four fifths of every class) or the `test` digits; `data.root` is not used.

    Raises:
        UserError: unknown split, or scikit-learn is not installed.
    """
    check_split(config, SPLITS)
    if find_spec("sklearn") is None:
        raise UserError(
            f"data.name: digits needs scikit-learn, which is not installed. Install it with: {install('demo')}"
        )
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = [int(label) for label in bunch.target]
    keys = [f"digits/{number:05d}" for number in range(len(labels))]
    # A fifth of every class (rounded down) is held out: the lowest hashes of (0, key), whatever the run's seed.
    order = sorted(range(len(keys)), key=lambda index: image_seed(0, keys[index], "split"))
    by_class = [[index for index in order if labels[index] == label] for label in range(len(CLASS_NAMES))]
    held_out = {index for of_class in by_class for index in of_class[: len(of_class) // 5]}
    chosen = [index for index in range(len(keys)) if (index in held_out) == (config.split == "test")]
    pixels = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)  # the values are 0 to 16
    return Digits(pixels, [keys[index] for index in chosen], [labels[index] for index in chosen])
