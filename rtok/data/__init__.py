"""Data sets: named pictures, how they are decoded, resized and put into batches.

A new data set is one file with an `open_...(config) -> ImageSource` and one line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rtok.data.ade20k import open_ade20k
from rtok.data.decoding import DecodeError
from rtok.data.digits import open_digits
from rtok.data.folder import open_folder
from rtok.data.folder_seg import open_folder_seg
from rtok.data.imagenet import open_imagenet
from rtok.data.photos import open_photos
from rtok.data.source import ImageSource
from rtok.data.subset import take
from rtok.errors import UserError, nearest

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

__all__ = ["SOURCES", "DecodeError", "ImageSource", "open_source"]

SOURCES: dict[str, Callable[[DataConfig], ImageSource]] = {
    "ade20k": open_ade20k,
    "digits": open_digits,
    "folder": open_folder,
    "folder-seg": open_folder_seg,
    "imagenet": open_imagenet,
    "photos": open_photos,
}


def open_source(config: DataConfig, *, seed: int) -> ImageSource:
    """Open the data set that `data` names, cut down to `data.limit` pictures where that is set.

    `seed` chooses which pictures a limit keeps, and nothing else.

    Raises:
        UserError: unknown data set or split, missing folder, no images, or a package that is not installed.
    """
    if config.name not in SOURCES:
        raise UserError(
            f"data.name: '{config.name}' is no data set; valid are {', '.join(SOURCES)}."
            f"{nearest(config.name, SOURCES)}"
        )
    source = SOURCES[config.name](config)
    return source if config.limit is None else take(source, config.limit, seed=seed)
