"""`folder-seg`: any images with masks and class names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtok.data.folder import chosen_folder, existing_root, split_folders, undivided
from rtok.data.masks import MaskedFiles, pair_up, read_classes
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig


def open_folder_seg(config: DataConfig) -> MaskedFiles:
    """Open `images/x.jpg` with `masks/x.png` and `classes.txt`.

    `classes.txt` has one class name per line; line k names mask value k - 1, and 255 means "ignored". If `images` has a
    folder called train, val or test (in any usual spelling), the set is divided into splits, and so is `masks`.

    Raises:
        UserError: no root, a different layout, no such split, or an image or mask without its partner.
    """
    root = existing_root(config)
    images, masks = root / "images", root / "masks"
    if not images.is_dir():
        raise UserError(f"data.root: {root} has no folder images: folder-seg needs images/, masks/ and classes.txt.")
    splits = split_folders(images)
    images = chosen_folder(images, splits, config)
    if splits:
        masks = (split_folders(masks) if masks.is_dir() else {}).get(config.split, masks / images.name)
    keys, mask_files, found = pair_up(root, images, masks)
    names, palette = read_classes(root / "classes.txt")
    return MaskedFiles(root, keys, mask_files, names, palette, found=found + undivided(splits, config))
