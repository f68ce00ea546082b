"""Data sets: named pictures, and how they are decoded, resized and put into batches.

A new data set is a function `open_...(config) -> ImageSource`, registered with `rtok.config.registry.DATASETS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import rtok.config.datasets  # noqa: F401 (registers the built-in data sets)
from rtok.config.registry import DATASETS
from rtok.data.decoding import DecodeError
from rtok.data.source import ImageSource
from rtok.data.subset import hold_out, take
from rtok.errors import UserError, nearest

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

__all__ = ["DecodeError", "ImageSource", "open_source"]


def open_source(config: DataConfig, *, seed: int) -> ImageSource:
    """Open the data set that `data` names, divided by `data.holdout` and reduced to `data.limit` pictures.

    `seed` decides which pictures the limits keep, and nothing else.

    Raises:
        UserError: unknown data set or split, missing folder, no images, or a package that is not installed.
    """
    if config.name not in DATASETS:
        raise UserError(
            f"data.name: '{config.name}' is not a data set; valid are {', '.join(DATASETS)}."
            f"{nearest(config.name, DATASETS)}"
        )
    source: ImageSource = DATASETS.find(config.name).load()(config)
    if config.holdout is not None:
        source = hold_out(source, config.holdout, config.split)
    return take(source, config.limit, seed=seed, per_group=config.limit_per_group)
