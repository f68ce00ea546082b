"""Images that a Python program holds: tensors, pairs with labels, data loaders. Nothing is read from disk.

A picture's key is the digest of its pixels, so that noise belongs to the image, whatever the order of a loader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rtok.data.decoding import content_digest
from rtok.data.source import Ungrouped
from rtok.errors import UserError
from rtok.models.images import check_range, check_shape

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig
    from rtok.data.source import ImageSource

GIVEN = "given"  # the name of such data in a config


@dataclass(frozen=True)
class MemorySource(Ungrouped):
    """8-bit pictures (H, W, 3), with classes or without."""

    pixels: Sequence[NDArray[np.uint8]]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None

    @cached_property
    def keys(self) -> Sequence[str]:
        """Each picture's digest; a copy of an earlier one has its number behind it."""
        seen: Counter[str] = Counter()
        keys = []
        for index in range(len(self.pixels)):
            digest = content_digest(self.read(index))
            seen[digest] += 1
            keys.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
        return keys

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> Image.Image:
        """Return one picture."""
        return Image.fromarray(self.pixels[index])


def read_memory(data: Any, classes: int | None = None) -> MemorySource:
    """Take over images: a tensor, a pair of images and labels, or an iterable of such batches, which is read once.

    Images are (N, 3, H, W), floats in [0, 1] or 8-bit; floats are rounded to 8 bits. Labels are (N,), whole numbers.

    Args:
        classes: how many there are; None counts up to the largest label.

    Raises:
        UserError: no images, other shapes or values, or labels in some batches only.
    """
    batches = [data] if isinstance(data, Tensor) or _is_pair(data) else data
    if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes)):
        raise UserError(
            f"data is a {type(data).__name__}: give a folder, a `data` section, a tensor (N, 3, H, W), a pair (images, "
            "labels), or a data loader."
        )
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for batch in batches:
        images, targets = batch if _is_pair(batch) else (batch, None)
        pixels += _to_8_bits(images)
        labels += [] if targets is None else _whole(targets, len(images))
    if not pixels:
        raise UserError("data: there are no images in it.")
    if not labels:
        return MemorySource(pixels)
    if len(labels) != len(pixels):
        raise UserError(f"data: {len(labels)} of {len(pixels)} images have labels: give labels to all or to none.")
    known = max(labels) + 1 if classes is None else classes
    if not 0 <= min(labels) <= max(labels) < known:
        raise UserError(f"data: labels are {min(labels)} to {max(labels)}; valid: whole numbers from 0 to {known - 1}.")
    return MemorySource(pixels, labels, [str(label) for label in range(known)])


def open_given(config: DataConfig) -> ImageSource:
    """Refuse to open what only the program had that ran."""
    raise UserError(
        "data.name: given stands for images that a Python program had in memory. Run the program again (with "
        "resume=True to go on), or name images on disk, such as {name: folder, root: DIR}."
    )


def _is_pair(batch: Any) -> bool:
    """Whether it is images and labels, rather than two batches of images."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        return False
    images, labels = batch
    return isinstance(images, Tensor) and images.ndim == 4 and not (isinstance(labels, Tensor) and labels.ndim == 4)


def _to_8_bits(images: Any) -> list[NDArray[np.uint8]]:
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        check_shape(images.float())
    else:
        check_shape(images)
        check_range(images)
        images = (images.detach().float() * 255).round().to(torch.uint8)
    return list(images.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def _whole(labels: Any, images: int) -> list[int]:
    given = torch.as_tensor(labels)
    if given.shape != (images,) or given.is_floating_point() or given.is_complex():
        raise UserError(
            f"data: labels have the shape {tuple(given.shape)} and the type {given.dtype} for {images} images; valid: "
            f"whole numbers of shape ({images},)."
        )
    return [int(label) for label in given]
