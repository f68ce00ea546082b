"""`folder`: any images below a folder, labeled or not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rtok.data.listing import find_images, made_by_run, subfolders
from rtok.data.source import FileSource, in_classes
from rtok.data.splits import split_of, whole_of
from rtok.errors import UserError, nearest, some
from rtok.files import where

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig


def open_folder(config: DataConfig) -> FileSource:
    """Open every image below `data.root`, or below its folder `data.split` if it is divided into splits.

    A root with a folder called train, val or test (or Validation, test_set, ...) is divided into splits, and
    `data.split` must be among its folders. If every image is in a subfolder, the first-level subfolders are the
    classes, in the order of their names; a single image outside them means that there are no labels. The classes are
    those of all splits together, so a class has the same index in each.

    Raises:
        UserError: no root, no such folder or split, or no images in it.
    """
    root = existing_root(config)
    splits = split_folders(root)
    base = chosen_folder(root, splits, config)
    listing = find_images(base)
    labels: list[int] | None = None
    names: list[str] | None = None
    if all(len(parts) > 1 for parts in listing.files):
        names = sorted({parts[0] for parts in listing.files} | class_folders(splits.values()))
        index = {name: label for label, name in enumerate(names)}
        labels = [index[parts[0]] for parts in listing.files]
    # Keys start at the root, so that a picture has the same key whatever `data.split` is.
    prefix = base.relative_to(root).parts
    keys = ["/".join((*prefix, *parts)) for parts in listing.files]
    found = listing.counted + in_classes(names) + listing.sizes(base) + listing.passed_over + undivided(splits, config)
    return FileSource(root, keys, labels, names, found)


def existing_root(config: DataConfig) -> Path:
    """Return `data.root`, or raise a UserError unless it is a folder that no run has made."""
    if config.root is None:
        raise UserError(f"data.root is missing: data.name: {config.name} needs the folder of the images.")
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(f"data.root: there is no folder {root}{where(root)}. Give the folder that holds the images.")
    if not root.is_dir():
        raise UserError(f"data.root: {root}{where(root)} is a file. Give the folder that holds the images.")
    if made_by_run(root):
        raise UserError(f"data.root: {root}{where(root)} is the folder of a run. Give the folder of the images.")
    return root


def check_split(config: DataConfig, valid: Collection[str], what: str = "") -> None:
    """Raise a UserError unless `data.split` is valid; `what` follows the split's name, such as " with masks"."""
    if config.split not in valid:
        raise UserError(
            f"data.split: {config.name} has no split '{config.split}'{what}; valid are {', '.join(valid)}."
            f"{nearest(config.split, valid)}"
        )


def split_folders(root: Path) -> dict[str, Path]:
    """Return the root's folder for each split that it has, whatever the spelling: `val`, `Valid`, `validation_set`.

    Raises:
        UserError: two folders for the same split.
    """
    found: dict[str, Path] = {}
    for name in subfolders(root):
        split = split_of(name)
        if split is not None and (first := found.setdefault(split, root / name)).name != name:
            raise UserError(
                f"data.root: {root} has two folders for the split {split}, {first.name} and {name}: rename one."
            )
    return found


def chosen_folder(root: Path, splits: Mapping[str, Path], config: DataConfig) -> Path:
    """Return the folder of `data.split`, or the root where it is not divided.

    Raises:
        UserError: there is no such split, or `data.holdout` would divide what is divided already.
    """
    if not splits:
        return root
    if config.holdout is not None:
        names = ", ".join(folder.name for folder in splits.values())
        raise UserError(f"data.holdout: {root} is divided already, into {names}: leave data.holdout out.")
    if config.split not in splits:
        raise no_split(root, config.split)
    return splits[config.split]


def undivided(splits: Mapping[str, Path], config: DataConfig) -> str:
    """Return what to say of a split that is no less than the whole folder, or `""`."""
    return "" if splits else whole_of("folders for splits", config)


def no_split(root: Path, split: str) -> UserError:
    """Return the error for a split that has no folder; it lists the existing folders."""
    there = subfolders(root)
    holds = some(there, 8) or "no folders"
    return UserError(f"data.split: {root} has no folder '{split}'; it holds {holds}.{nearest(split, there)}")


def class_folders(splits: Iterable[Path]) -> set[str]:
    """Return the names of the folders in all of these folders that exist."""
    return {name for base in splits if base.is_dir() for name in subfolders(base)}
