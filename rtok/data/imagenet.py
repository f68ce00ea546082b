"""`imagenet`: `root/split/nXXXXXXXX/*.JPEG`, the layout of torchvision and DINOv2.

Where `rtok prepare-imagenet` (or DINOv2's own code) has written extra files for the split, they are read instead of the
folders, which is much faster. The keys and labels are the same either way.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rtok.data.folder import check_split, class_folders, existing_root, no_split
from rtok.data.imagenet_extra import ExtraFiles, open_extra
from rtok.data.imagenet_layout import IMAGENET_LABELS, LABELS_FILE, SPLITS, WORDNET_ID, Classes, read_classes
from rtok.data.listing import find_images
from rtok.data.source import FileSource, ImageSource
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig


def open_imagenet(config: DataConfig) -> ImageSource:
    """Open a split through the extra files in `data.extra` (by default the root), else through its folders.

    Raises:
        UserError: no root or split, no images, images outside class folders, a class folder that is not in the root's
            labels.txt, or damaged extra files.
    """
    root = existing_root(config)
    check_split(config, SPLITS)
    files = ExtraFiles(config.extra or root, SPLITS[config.split])
    if config.extra or files.entries.exists():
        return open_extra(root, files)
    return _open_folders(root, config.split)


def _open_folders(root: Path, split: str) -> FileSource:
    if not (root / split).is_dir():
        raise no_split(root, split)
    listing = find_images(root / split)
    files = listing.files
    keys = ["/".join((split, *parts)) for parts in files]
    if not SPLITS[split].labeled and all(len(parts) == 1 for parts in files):
        return FileSource(root, keys, found=listing.text)
    for parts in files:
        if len(parts) != 2 or not WORDNET_ID.fullmatch(parts[0]):
            raise UserError(
                f"data.root: {root / split} is not an ImageNet folder: {'/'.join(parts)} is not in a "
                "class folder such as n01440764. Use data.name: folder for other layouts."
            )
    classes = _classes(root, {parts[0] for parts in files})
    return FileSource(root, keys, [classes.index[parts[0]] for parts in files], classes.names, listing.text)


def _classes(root: Path, folders: Collection[str]) -> Classes:
    """Return the classes of the root's labels.txt; else ImageNet's 1,000; else those of all splits' folders.

    A part of ImageNet therefore has ImageNet's labels, as a head for its 1,000 classes needs, and a class has the same
    index in every split.
    """
    own = root / LABELS_FILE
    classes = read_classes(own if own.is_file() else IMAGENET_LABELS)
    unknown = sorted(set(folders) - classes.index.keys())
    if not unknown:
        return classes
    if own.is_file():
        raise UserError(f"data.root: class folder {unknown[0]} is not in {own}. Add it, or move it away.")
    wnids = sorted(name for name in class_folders(root / split for split in SPLITS) if WORDNET_ID.fullmatch(name))
    return Classes(wnids, wnids)
