"""Pictures with a class for every pixel: what all segmentation data sets share."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from rtok.data.listing import find_images
from rtok.data.source import Files
from rtok.errors import UserError

IGNORE = 255  # the usual label of pixels that do not count
Color = tuple[int, int, int]

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_CLASS = re.compile(r"(?P<name>.*?)(?:\s+#(?P<color>[0-9a-fA-F]{6}))?")


@dataclass(frozen=True)
class MaskedFiles(Files):
    """Image files below `root`, each with an 8-bit mask file.

    Attributes:
        masks: the masks' paths relative to the root, in the order of `keys`.
        class_names, palette: name and color of each class.
        first_value: the value of class 0 in a mask; if it is 1, the value 0 means "ignored" (`reduce_zero_label`).
        found: see `rtok.data.source.found`.
    """

    masks: Sequence[str]
    class_names: Sequence[str]
    palette: Sequence[Color]
    first_value: int = 0
    labels: None = None
    found: str = ""

    def paths(self, key: str) -> list[str]:
        """Return the image's file and the mask's."""
        return [f"{self.root!s}/{key}", f"{self.root!s}/{self._mask_of[key]}"]

    @cached_property
    def _mask_of(self) -> dict[str, str]:
        return dict(zip(self.keys, self.masks, strict=True))

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Return the class of every pixel (H, W), `IGNORE` where there is none.

        Raises:
            UserError: the file is unreadable, or its pixels are not 8-bit class numbers.
        """
        values = self._values(index)
        return values if self.first_value == 0 else values - np.uint8(1)  # 0 wraps around to 255

    def part(self, indices: Sequence[int]) -> MaskedFiles:
        """Return the pictures at `indices`, in that order."""
        keys, masks = ([names[index] for index in indices] for names in (self.keys, self.masks))
        return replace(self, keys=keys, masks=masks, found=f"{len(keys)} of {self.found}")

    def problem(self, index: int) -> str | None:
        """Return what is wrong with a mask (its size is not its image's, or a value is not a class), or None."""
        values = self._values(index)
        height, width = values.shape
        size = _upright_size(self.root / self.keys[index]) or (width, height)
        if size != (width, height):
            return f"{self.masks[index]} is {width} x {height}, but its image is {size[0]} x {size[1]}"
        last = self.first_value + len(self.class_names) - 1
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        wrong = [v for v in present.tolist() if v > last and (self.first_value or v != IGNORE)]
        if wrong:
            valid = f"0 to {last}" + ("" if self.first_value else f" and {IGNORE}")
            return f"{self.masks[index]} holds {', '.join(map(str, wrong[:5]))}; valid are {valid}"
        return None

    def _values(self, index: int) -> NDArray[np.uint8]:
        path = self.root / self.masks[index]
        try:
            with Image.open(path) as image:
                mode, values = image.mode, np.array(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{path} cannot be read as a mask ({error}): replace the file.") from error
        if mode not in ("L", "P"):
            raise UserError(
                f"{path} is not a mask: its pixels are {mode}, and masks hold class numbers as 8-bit gray or "
                "palette PNG. Convert it, with one number per class."
            )
        return values


def pair_up(root: Path, images: Path, masks: Path) -> tuple[list[str], list[str], str]:
    """Find the images below one folder and their masks, `same/name.png`, below another.

    Returns:
        The paths of the images relative to `root`, those of their masks in the same order, and what was found in words.

    Raises:
        UserError: no image, or an image or mask without its partner; the message has their number and one name.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"data.root: there is no folder {folder}: images and masks need a folder each.")
    listing = find_images(images)
    pairs = {Path(*parts).with_suffix(".png"): Path(*parts) for parts in listing.files}
    if len(pairs) < len(listing.files):
        raise UserError(f"data.root: two images in {images} differ only in their extension: remove one.")
    there = {path.relative_to(masks) for path in masks.rglob("*.png") if path.name[0] != "."}
    without_mask = {path for mask, path in pairs.items() if mask not in there}
    for lonely, kind, partner in ((without_mask, "image", masks), (there - pairs.keys(), "mask", images)):
        if lonely:
            raise UserError(
                f"data.root: {len(lonely)} {kind}s have no partner in {partner}, for example {min(lonely)}. "
                "Every image needs a mask of the same name as .png, and every mask an image."
            )
    image_paths = [(images / path).relative_to(root).as_posix() for path in pairs.values()]
    return image_paths, [(masks / mask).relative_to(root).as_posix() for mask in pairs], listing.text


def read_classes(path: Path) -> tuple[list[str], list[Color]]:
    """Read class names, one per line in the order of their numbers; `sky #06e6e6` gives a color too.

    Raises:
        UserError: no such file, no classes, more than 8-bit masks can hold, or a name that is listed twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.root: {path} cannot be read ({error}): give it one class name per line.") from None
    names: list[str] = []
    colors: list[Color] = []
    for line in filter(None, map(str.strip, lines)):
        match = _CLASS.fullmatch(line)
        assert match is not None
        names.append(match["name"])
        colors.append(_color(bytes.fromhex(match["color"])) if match["color"] else _usual_color(len(colors)))
    if not 2 <= len(names) <= IGNORE:
        raise UserError(f"data.root: {path} names {len(names)} classes; valid are 2 to {IGNORE}, one per line.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"data.root: {path} lists the class '{twice}' twice: rename one of them.")
    return names, colors


def _usual_color(number: int) -> Color:
    """Return a color that differs from those of the numbers before: hues a golden angle apart."""
    rgb = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, (1.0, 0.7)[number // 8 % 2])
    return _color(round(255 * part) for part in rgb)


def _color(parts: Iterable[int]) -> Color:
    red, green, blue = parts
    return red, green, blue


def _upright_size(path: Path) -> tuple[int, int] | None:
    """Return the (width, height) that `read_image` will give, from the file's header; None if it has none.

    A damaged image is not the mask's fault: `data.on_error` decides about it when it is decoded.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        return None
    return (height, width) if turned else (width, height)
