"""`folder`: any images below a folder, labelled or not."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rtok.data.source import FileSource
from rtok.errors import UserError, nearest, some

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = ("train", "val", "test")


def open_folder(config: DataConfig) -> FileSource:
    """Open every image below `data.root`, or below its folder `data.split` if it is divided into splits.

    A root with a folder called train, val or test is divided into splits, and `data.split` must be among its folders.
    If every image is in a subfolder, the first-level subfolders are the classes, in the order of their names; a single
    image outside them means that there are no labels. The classes are those of all splits together, so a class has the
    same index in each.

    Raises:
        UserError: no root, no such folder or split, or no images in it.
    """
    root = existing_root(config)
    divided = any((root / split).is_dir() for split in SPLITS)
    base = split_folder(root, config.split) if divided else root
    files = find_images(base)
    labels: list[int] | None = None
    names: list[str] | None = None
    if all(len(parts) > 1 for parts in files):
        names = sorted({parts[0] for parts in files} | (set(class_folders(root)) if divided else set()))
        index = {name: label for label, name in enumerate(names)}
        labels = [index[parts[0]] for parts in files]
    # Keys start at the root, so that a picture has the same key whatever `data.split` is.
    prefix = base.relative_to(root).parts
    return FileSource(root, ["/".join((*prefix, *parts)) for parts in files], labels, names)


def existing_root(config: DataConfig) -> Path:
    """Return `data.root`, or raise a UserError unless it is a folder."""
    if config.root is None:
        raise UserError(f"data.root is missing: data.name: {config.name} needs the folder of the images.")
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(f"data.root: there is no folder {root}. Give the folder that holds the images.")
    if not root.is_dir():
        raise UserError(f"data.root: {root} is a file. Give the folder that holds the images.")
    return root


def check_split(config: DataConfig, valid: Collection[str], what: str = "") -> None:
    """Raise a UserError unless `data.split` is valid; `what` follows the split's name, such as " with masks"."""
    if config.split not in valid:
        raise UserError(
            f"data.split: {config.name} has no split '{config.split}'{what}; valid are {', '.join(valid)}."
            f"{nearest(config.split, valid)}"
        )


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split, or raise a UserError that lists the existing folders."""
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if split not in there:
        raise UserError(
            f"data.split: {root} has no folder '{split}'; it holds {some(there, 8) or 'no folders'}."
            f"{nearest(split, there)}"
        )
    return root / split


def class_folders(root: Path) -> Iterator[str]:
    """Yield the names of the folders in all of the root's splits, once per split that has them."""
    for base in (root / split for split in SPLITS):
        if base.is_dir():
            yield from (entry.name for entry in base.iterdir() if entry.is_dir() and entry.name[0] != ".")


def find_images(base: Path) -> list[tuple[str, ...]]:
    """Find the image files below `base`, as path parts, sorted by folder and then by name.

    The case of extensions does not matter. Hidden files and folders are left out (macOS puts a `._x.jpg` that is not an
    image beside `x.jpg`). Links to folders are followed, but each folder is read once.

    Raises:
        UserError: a folder cannot be listed, or there are no images.
    """
    found: list[tuple[str, ...]] = []
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(base, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:  # a link to a folder that was already read
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if name[0] != ".")
        parts = Path(folder).relative_to(base).parts
        found += [(*parts, name) for name in files if name[0] != "." and name.lower().endswith(EXTENSIONS)]
    if not found:
        raise UserError(f"data.root: there are no images in {base} or below it. Valid are {', '.join(EXTENSIONS)}.")
    for parts in found:
        if not "".join(parts).isascii():
            _check_utf8("/".join(parts), base)
    return sorted(found)


def _check_utf8(name: str, base: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise UserError(f"data.root: the name {shown} in {base} is not UTF-8: rename the file.") from None


def _refuse(error: OSError) -> None:
    raise UserError(f"data.root: cannot list {error.filename}: {error.strerror}.") from error
