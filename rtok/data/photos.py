"""`photos`: the sample photos inside the installed scikit-image, scikit-learn and foolbox. Nothing is downloaded.

The split is by photo and fixed, so no part of a test photo is ever trained on. Each kind of picture (person, animal,
object, scene, texture, sky) is in both splits; foolbox's twenty photos of ImageNet are dealt out in turns. Of the
packages' pictures, these are left out:

- `motorcycle_right.png`, the same scene as `motorcycle_left.png`;
- drawings and renderings (chessboards, color, horse, logo, phantom) and text (page, text);
- microscopy and eyes (cell, ihc, microaneurysms, retina), `clock_motion.png` (blurred on purpose) and `lfw_subset.npy`
  (25 pixels wide): the demo is about photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from rtok.data.decoding import read_image
from rtok.data.folder import check_split
from rtok.errors import UserError
from rtok.version import install

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

_TRAIN = "astronaut.png", "brick.png", "coffee.png", "flower.jpg", "gravel.png", "hubble_deep_field.jpg", "moon.png"
_TEST = "camera.png", "chelsea.png", "china.jpg", "coins.png", "grass.png", "rocket.jpg"
_CLASSES = 243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305
_IMAGENET = tuple(f"imagenet_{number:02}_{label}.jpg" for number, label in enumerate(_CLASSES))  # foolbox's names
SPLITS = {"train": (*_TRAIN, "motorcycle_left.png", *_IMAGENET[::2]), "test": (*_TEST, *_IMAGENET[1::2])}
# Package: (its name on PyPI, the folder of its sample photos).
_PACKAGES = {
    "skimage": ("scikit-image", "data"),
    "sklearn": ("scikit-learn", "datasets/images"),
    "foolbox": ("foolbox", "data"),
}
_INSTALL = f"Install the sample photos with: {install('demo')}"

TILES = 5  # the central square, and a square of two thirds of its side in each corner


@dataclass(frozen=True)
class PhotoTiles:
    """Square tiles of photos: `chelsea.png#0` is the central square, `#1` to `#4` are the corners row by row."""

    photos: Sequence[Path]
    labels: None = None
    class_names: None = None

    @cached_property
    def keys(self) -> Sequence[str]:
        """Each tile's photo and number, such as `chelsea.png#0`."""
        return [f"{photo.name}#{tile}" for photo in self.photos for tile in range(TILES)]

    @cached_property
    def groups(self) -> Sequence[str]:
        """The photo that each tile is cut from."""
        return [photo.name for photo in self.photos for _ in range(TILES)]

    def __len__(self) -> int:
        return TILES * len(self.photos)

    def read(self, index: int) -> Image.Image:
        """Cut one tile out of its photo."""
        photo = read_image(self.photos[index // TILES])
        return photo.crop(tile_box(*photo.size, index % TILES))


def tile_box(width: int, height: int, tile: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of one of a photo's `TILES` square tiles."""
    if tile == 0:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
    else:
        side = min(width, height) * 2 // 3
        left, top = (width - side) * ((tile - 1) % 2), (height - side) * ((tile - 1) // 2)
    return left, top, left + side, top + side


def open_photos(config: DataConfig) -> PhotoTiles:
    """Open the `train` or `test` photos; `data.root` is not used.

    Raises:
        UserError: unknown split, a package that is not installed, or a photo that is missing from both.
    """
    check_split(config, SPLITS)
    folders = [_sample_folder(package) for package in _PACKAGES]
    return PhotoTiles([_find(name, folders) for name in SPLITS[config.split]])


def _sample_folder(package: str) -> Path:
    spec = find_spec(package)  # finds the package without importing it
    distribution, folder = _PACKAGES[package]
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"data.name: photos needs {distribution}, which is not installed. {_INSTALL}")
    return Path(spec.submodule_search_locations[0]) / folder


def _find(name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"data.name: photos: {name} is not in {' or '.join(map(str, folders))}. {_INSTALL}")
