"""Scan a split of ImageNet: which images it has, and what is wrong with its files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtok.console import progress
from rtok.data.imagenet_layout import Classes, Split
from rtok.errors import UserError, some
from rtok.preparation.image_file import fault

_THREADS = 16  # more than there are cores: with files on a network disk, threads mostly wait
_CHUNK = 1_000  # files that a thread takes at once; a class of the train split has at most 1,300

MISNAMED = "misnamed"


@dataclass(frozen=True)
class Problem:
    """One file that is left out; problems are counted by `kind`."""

    kind: str
    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The sorted file names in a split's folders, by WordNet id (`""` where there are no class folders)."""

    split: Split
    names: Mapping[str, Sequence[str]]
    stray: Sequence[Problem]


@dataclass
class Scan:
    """The content of a split: by WordNet id, the numbers of the good files in the order of their names."""

    split: Split
    numbers: dict[str, NDArray[np.uint32]]
    problems: list[Problem] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many files are good."""
        return sum(len(array) for array in self.numbers.values())


def list_split(root: Path, split: Split, classes: Classes) -> Listing:
    """List a split's folder. Hidden files and folders are ignored.

    Raises:
        UserError: a class folder is not among the classes, or a folder cannot be listed.
    """
    base = root / split.name
    entries = _entries(base)
    if not split.labeled:
        return Listing(split, {"": [entry.name for entry in entries]}, [])
    folders = [entry.name for entry in entries if entry.is_dir()]
    others = [f"{split.name}/{entry.name}" for entry in entries if not entry.is_dir()]
    stray = [Problem(MISNAMED, path, "not in a class folder") for path in others]
    unknown = [name for name in folders if name not in classes.index]
    if unknown:
        raise UserError(
            f"--root: {len(unknown)} of the {len(folders)} class folders in {base} are not in the labels: "
            f"{some(unknown, 5)}. Move them away, or name their classes with --labels FILE."
        )
    return Listing(split, {name: [entry.name for entry in _entries(base / name)] for name in folders}, stray)


def scan_split(root: Path, listing: Listing) -> Scan:
    """Check the name, the start and the end of every listed file."""
    split = listing.split
    chunks = [
        (wnid, names[start : start + _CHUNK])
        for wnid, names in listing.names.items()
        for start in range(0, len(names), _CHUNK)
    ]
    found: dict[str, list[int]] = {wnid: [] for wnid in listing.names}
    problems = list(listing.stray)
    total = sum(map(len, listing.names.values()))
    with ThreadPoolExecutor(_THREADS) as pool, progress(split.name, total, unit="file") as bar:
        scanned = pool.map(_scan_files, repeat(root), repeat(split), chunks)
        for (wnid, names), results in zip(chunks, scanned, strict=True):
            found[wnid] += [result for result in results if isinstance(result, int)]
            problems += [result for result in results if isinstance(result, Problem)]
            bar.advance(len(names), problems=len(problems))
    numbers = {wnid: np.array(good, dtype=np.uint32) for wnid, good in found.items()}
    return Scan(split, numbers, problems)


def _scan_files(root: Path, split: Split, chunk: tuple[str, Sequence[str]]) -> list[int | Problem]:
    wnid, names = chunk
    return [_scan_file(root / split.name / wnid / name, split, wnid) for name in names]


def _scan_file(path: Path, split: Split, wnid: str) -> int | Problem:
    number = split.number(wnid, path.name)
    relative = "/".join(part for part in (split.name, wnid, path.name) if part)
    if number is None:
        return Problem(MISNAMED, relative, f"not named like {split.file_name(wnid, 293)}")
    wrong = fault(path)
    return number if wrong is None else Problem(wrong[0], relative, wrong[1])


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if entry.name[0] != "."]
    except OSError as error:
        raise UserError(f"--root: cannot list {folder}: {error.strerror}.") from error
    return sorted(visible, key=lambda entry: entry.name)
