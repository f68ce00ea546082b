"""The images below a folder, and what is not read there: other files, and the folders that runs have made."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NoReturn

from rtok.data.decoding import EXTENSIONS, read_size
from rtok.errors import UserError, some
from rtok.files import LOCK_FILE, holds_run, where
from rtok.version import install

_SAMPLED = 64  # images at most whose headers are read to say how large they are


@dataclass(frozen=True)
class Listing:
    """The images below a folder.

    Attributes:
        files: the images, as path parts relative to the folder, sorted by folder and then by name.
        others: how many files of other kinds there are, by suffix.
        runs: the folders that runs have made, which are not read.
    """

    files: list[tuple[str, ...]]
    others: Counter[str]
    runs: list[str]

    @property
    def text(self) -> str:
        """What was found, in words: `37 images in 1 folder, 3 files passed over (2 .heic, 1 .txt)`."""
        return self.counted + self.passed_over

    @property
    def counted(self) -> str:
        """The beginning of `text`: how many images there are."""
        images = _count(len(self.files), "image")
        return f"{images} in {_count(len({parts[:-1] for parts in self.files}), 'folder')}"

    def sizes(self, base: Path) -> str:
        """Return how large the images below `base` are, from the headers of a few, for the middle of a sentence."""
        every = -(-len(self.files) // _SAMPLED)
        sample = self.files[::every]
        known = [size for parts in sample if (size := read_size(base.joinpath(*parts))) is not None]
        if not known:
            return ""
        ends = dict.fromkeys((min(known, key=prod), max(known, key=prod)))
        sampled = "" if every == 1 else f" in {len(sample)} of them"
        return f", {' to '.join(f'{width} x {height}' for width, height in ends)} px{sampled}"

    @property
    def passed_over(self) -> str:
        """The end of `text`: what is not read."""
        text = ""
        if self.others:
            by_count = sorted(self.others.items(), key=lambda kind: (-kind[1], kind[0]))
            kinds = some([f"{count} {suffix}" for suffix, count in by_count], 5)
            text += f", {_count(self.others.total(), 'file')} passed over ({kinds})"
        if not {".heic", ".heif"}.isdisjoint(self.others) and ".heic" not in EXTENSIONS:
            text += f", HEIC is read after {install('heic')}"
        if self.runs:
            text += f", {_count(len(self.runs), 'folder')} of runs passed over ({some(self.runs)})"
        return text


def find_images(base: Path) -> Listing:
    """Find the image files below `base`.

    The case of extensions does not matter. Hidden files and folders are left out (macOS puts a `._x.jpg` that is not an
    image beside `x.jpg`), and so are the folders of runs. Links to folders are followed, but each folder is read once.

    Raises:
        UserError: a folder cannot be listed, or there are no images.
    """
    found = Listing([], Counter(), [])
    visited: set[tuple[int, int]] = set()
    for folder, inner, files in os.walk(base, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        parts = Path(folder).relative_to(base).parts
        if (status.st_dev, status.st_ino) in visited:  # a link to a folder that was already read
            inner.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        if parts and made_by_run(Path(folder)):
            found.runs.append("/".join(parts))
            inner.clear()
            continue
        inner[:] = sorted(name for name in inner if name[0] != ".")
        for name in files:
            if name[0] != "." and name.lower().endswith(EXTENSIONS):
                found.files.append((*parts, name))
            elif name[0] != ".":
                found.others[Path(name).suffix.lower() or "without suffix"] += 1
    if not found.files:
        raise UserError(
            f"data.root: there are no images in {base}{where(base)} or below it{found.passed_over}. "
            f"Valid are {', '.join(EXTENSIONS)}."
        )
    for parts in found.files:
        if not "".join(parts).isascii():
            _check_utf8("/".join(parts), base)
    found.files.sort()
    return found


def made_by_run(folder: Path) -> bool:
    """Whether a run writes or wrote into this folder: what it holds is output, never data."""
    with suppress(OSError):  # a folder that cannot be read; whoever lists it says so
        return holds_run(folder) or (folder / LOCK_FILE).exists()
    return False


def subfolders(root: Path) -> list[str]:
    """Return the names of the folders in `root`, sorted, without hidden ones and those that runs have made.

    Raises:
        UserError: `root` cannot be listed.
    """
    try:
        there = [entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."]
    except OSError as error:
        _refuse(error)
    return sorted(name for name in there if not made_by_run(root / name))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_utf8(name: str, base: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise UserError(f"data.root: the name {shown} in {base} is not UTF-8: rename the file.") from None


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"data.root: cannot list {error.filename}: {error.strerror}.") from error
