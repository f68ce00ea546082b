"""`imagenet`: one folder a split, one folder a class, as torchvision and DINOv2 lay it out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rtok.data.folder import existing_root, find_images, split_folder
from rtok.data.source import FileSource
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

_WORDNET_ID = re.compile(r"n\d{8}")


def open_imagenet(config: DataConfig) -> FileSource:
    """Open `root/split/nXXXXXXXX/*.JPEG`; the classes are the class folders, in the order of their names.

    ImageNet's own class order is the order of the WordNet ids, so on all 1,000 classes this is its labelling.

    Raises:
        UserError: no root, no such split, no images, or images outside class folders.
    """
    root = existing_root(config)
    files = find_images(split_folder(root, config.split))
    for parts in files:
        if len(parts) != 2 or not _WORDNET_ID.fullmatch(parts[0]):
            raise UserError(
                f"data.root: {root / config.split} is no ImageNet: {'/'.join(parts)} is not in a "
                "class folder such as n01440764. Use data.name: folder for other layouts."
            )
    names = sorted({parts[0] for parts in files})
    index = {name: label for label, name in enumerate(names)}
    keys = ["/".join((config.split, *parts)) for parts in files]
    return FileSource(root, keys, [index[parts[0]] for parts in files], names)
