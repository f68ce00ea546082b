"""`webdataset`: the pictures in a folder of tar files, each read from where it lies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rtok.data.decoding import DecodeError, decode
from rtok.data.folder import existing_root
from rtok.data.shards import Shard, index_shard
from rtok.data.source import Ungrouped, in_classes
from rtok.data.splits import chosen_part, split_of
from rtok.errors import UserError, some
from rtok.files import where

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig


@dataclass(frozen=True, eq=False)
class Members(Ungrouped):
    """Pictures in tar files."""

    shards: Sequence[Path]
    places: NDArray[np.int64]  # (N, 3): the number of each picture's shard, its offset and its size in bytes
    keys: Sequence[str]
    labels: Sequence[int] | None
    class_names: Sequence[str] | None
    found: str

    @property
    def containers(self) -> list[str]:
        """The files that the pictures are read from."""
        return list(map(str, self.shards))

    def read(self, index: int) -> Image.Image:
        """Decode one member."""
        shard, offset, size = self.places[index].tolist()
        name = f"{self.keys[index]} in {self.shards[shard]}"
        try:
            with self.shards[shard].open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DecodeError(name, error.strerror or str(error)) from error
        return decode(data, name)


def open_webdataset(config: DataConfig) -> Members:
    """Open the pictures in the tar files below `data.root` that belong to `data.split`.

    A tar file belongs to a split if a word of its path names one (`val/0.tar`, `photos-train-0001.tar`). Labels are the
    numbers in `.cls` members; where a picture has none, there are no labels. A picture's key is its member's name,
    after the split where there are several; where two have the same name, it is the tar file's path and the name.

    Raises:
        UserError: no root, no tar files, no such split, no pictures in it, or a tar file that cannot be read.
    """
    root = existing_root(config)
    paths = sorted(path for path in root.rglob("*.tar") if path.name[0] != "." and path.is_file())
    if not paths:
        raise UserError(f"data.root: there are no .tar files in {root}{where(root)} or below it.")
    parts: dict[str, list[Path]] = {}
    for path in paths:
        parts.setdefault(_split_in(path.relative_to(root)), []).append(path)
    chosen, prefix, note = chosen_part(parts, config, str(root), "splits in the names of the .tar files")
    shards = [index_shard(path) for path in chosen]
    places = [
        (number, offset, size)
        for number, shard in enumerate(shards)
        for offset, size in zip(shard.offsets, shard.sizes, strict=True)
    ]
    if not places:
        raise UserError(f"data.root: there are no images in the .tar files of {root}{where(root)}.")
    keys = _keys(prefix, [path.relative_to(root).as_posix() for path in chosen], shards)
    labels = [label for shard in shards for label in shard.labels if label is not None]
    if len(labels) < len(places):
        return Members(chosen, np.array(places), keys, None, None, _found(shards, None) + note)
    names = [str(label) for label in range(max(labels) + 1)]
    return Members(chosen, np.array(places), keys, labels, names, _found(shards, names) + note)


def _split_in(path: Path) -> str:
    """Return the split that a path names, as it names it; "all" where it names none."""
    words = [word for part in path.parts for word in re.split(r"[-_.]", part)]
    return next((word for word in words if split_of(word)), "all")


def _keys(prefix: str, paths: list[str], shards: list[Shard]) -> list[str]:
    keys = [f"{prefix}{name}" for shard in shards for name in shard.names]
    if len(set(keys)) == len(keys):
        return keys
    keys = [f"{path}/{name}" for path, shard in zip(paths, shards, strict=True) for name in shard.names]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise UserError(f"data.root: {twice[0]} is there twice: names in a .tar file must differ.")
    return keys


def _found(shards: list[Shard], classes: list[str] | None) -> str:
    text = f"{sum(len(shard.names) for shard in shards)} images in {len(shards)} .tar file{'s' * (len(shards) > 1)}"
    text += in_classes(classes)
    others = sum((Counter(shard.others) for shard in shards), Counter[str]())
    kinds = some([f"{count} {suffix}" for suffix, count in others.most_common()], 5)
    return text + (f", {others.total()} members passed over ({kinds})" if others else "")
