"""DINOv2's "extra" files, which its ImageNet reader and rtok's read instead of listing the folders.

For each split S (TRAIN, VAL, TEST), as NumPy files:

- `entries-S.npy`: one record per image, by class folder and then by file name, with `actual_index` <u4 (the number in
  the file's name), `class_index` <u4, `class_id` U (the WordNet id) and `class_name` U;
- `class-ids-S.npy` and `class-names-S.npy`: text by class index. TEST has neither; its records have class index
  2**32 - 1 and empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rtok.data.decoding import read_image
from rtok.data.imagenet_layout import Classes, Split
from rtok.data.source import Ungrouped
from rtok.errors import UserError
from rtok.files import atomic_path

T = TypeVar("T")

NO_CLASS = 2**32 - 1
_FIELDS = ("actual_index", "class_index", "class_id", "class_name")
_CHUNK = 65_536  # records that an iteration over all of them converts to Python values at once


@dataclass(frozen=True)
class ExtraFiles:
    """The paths of one split's extra files."""

    folder: Path
    split: Split

    @property
    def entries(self) -> Path:
        """The records. They are written last: if they exist, so do the others."""
        return self._file("entries")

    @property
    def class_ids(self) -> Path:
        """The WordNet ids."""
        return self._file("class-ids")

    @property
    def class_names(self) -> Path:
        """The names of the classes."""
        return self._file("class-names")

    def _file(self, kind: str) -> Path:
        return self.folder / f"{kind}-{self.split.name.upper()}.npy"


def write_extra(files: ExtraFiles, classes: Classes, numbers: Sequence[NDArray[np.uint32]]) -> None:
    """Write one split's extra files, and create their folder if necessary.

    Args:
        numbers: by class index, the numbers in the names of the class's files, in the order of the files; for a split
            without labels, one array with all.
    """
    files.folder.mkdir(parents=True, exist_ok=True)
    if files.split.labeled:
        _save(files.class_ids, np.array(classes.wnids))
        _save(files.class_names, np.array(classes.names))
        rows = list(zip(range(len(classes)), classes.wnids, classes.names, strict=True))
    else:
        rows = [(NO_CLASS, "", "")]
    present = [(row, array) for row, array in zip(rows, numbers, strict=True) if len(array)]
    # As wide as the longest text that occurs, as in DINOv2's own code.
    id_width = max(len(wnid) for (_, wnid, _), _ in present)
    name_width = max(len(name) for (_, _, name), _ in present)
    kinds = ("<u4", "<u4", f"<U{id_width}", f"<U{name_width}")
    entries = np.empty(sum(len(array) for _, array in present), dtype=list(zip(_FIELDS, kinds, strict=True)))
    start = 0
    for row, array in present:
        part = entries[start : start + len(array)]
        for name, value in zip(_FIELDS, (array, *row), strict=True):
            part[name] = value
        start += len(array)
    _save(files.entries, entries)


def _save(path: Path, array: NDArray[Any]) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary, array)


@dataclass(frozen=True)
class ExtraSource(Ungrouped):
    """The images that a split's extra files list; the files are memory-mapped."""

    root: Path
    files: ExtraFiles

    @cached_property
    def entries(self) -> NDArray[np.void]:
        """One record per image, memory-mapped."""
        return _load(self.files.entries)

    @cached_property
    def keys(self) -> Sequence[str]:
        """The images' paths relative to the root."""
        split = self.files.split
        return _Column(self.entries[["class_id", "actual_index"]], lambda entry: split.path(*entry))

    @cached_property
    def labels(self) -> Sequence[int] | None:
        """The class indices; None for `test`."""
        return _Column(self.entries["class_index"], int) if self.files.split.labeled else None

    @cached_property
    def class_names(self) -> Sequence[str] | None:
        """The names by class index; None for `test`."""
        return _load(self.files.class_names).tolist() if self.files.split.labeled else None

    @property
    def found(self) -> str:
        """Where the images are listed, in words."""
        return f"{len(self):,} images listed in {self.files.entries.name}"

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int) -> Image.Image:
        """Decode one file."""
        return read_image(self.root / self.keys[index])

    def paths(self, key: str) -> list[str]:
        """Return the file that a picture is read from."""
        return [f"{self.root!s}/{key}"]

    def __getstate__(self) -> dict[str, Any]:
        # NumPy would pickle the whole content of a memory-mapped array.
        return {field.name: getattr(self, field.name) for field in fields(self)}


def open_extra(root: Path, files: ExtraFiles) -> ExtraSource:
    """Open the images that extra files list.

    Raises:
        UserError: a file is missing, or not in DINOv2's format.
    """
    source = ExtraSource(root, files)
    if source.entries.dtype.names != _FIELDS or source.entries.ndim != 1:
        raise UserError(f"{files.entries} does not hold ImageNet entries. {_AGAIN}")
    names, labels = source.class_names, source.labels
    if names is not None and labels and labels[-1] >= len(names):
        raise UserError(
            f"{files.class_names} has {len(names)} classes, but {files.entries.name} has a class index of "
            f"{labels[-1]}. {_AGAIN}"
        )
    return source


_AGAIN = "Recreate it with: rtok prepare-imagenet --root DIR"


def _load(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "is not a complete NumPy file"
        raise UserError(f"{path} {reason}. {_AGAIN}") from error


class _Column(Sequence[T], Generic[T]):
    """Values computed by `value` from a field of the records or several, each when it is asked for."""

    def __init__(self, entries: NDArray[Any], value: Callable[[Any], T]) -> None:
        self._entries = entries
        self._value = value

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        values = self._entries[index].tolist()
        return [self._value(entry) for entry in values] if isinstance(index, slice) else self._value(values)

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), _CHUNK):
            yield from self[start : start + _CHUNK]
