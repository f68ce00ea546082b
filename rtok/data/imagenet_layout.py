"""ImageNet (ILSVRC 2012) on disk: its splits, its file names and its classes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rtok.errors import UserError

LABELS_FILE = "labels.txt"
WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)
_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel has the file inside the package, a checkout beside it. `make labels` writes it.
IMAGENET_LABELS = _PACKAGE / LABELS_FILE if (_PACKAGE / LABELS_FILE).is_file() else _PACKAGE.parent / LABELS_FILE
# DINOv2's `entries` have 32 bits for a number.
_MAX_NUMBER = 2**32 - 1


@dataclass(frozen=True)
class Split:
    """A part of ImageNet. `test` has neither class folders nor labels; its `wnid` is always `""`."""

    name: str
    size: int
    labeled: bool = True

    def file_name(self, wnid: str, number: int) -> str:
        """Return the name of image `number`: n01440764_10026.JPEG, ILSVRC2012_val_00000293.JPEG."""
        if self.name == "train":
            return f"{wnid}_{number}.JPEG"
        return f"ILSVRC2012_{self.name}_{number:08d}.JPEG"

    def number(self, wnid: str, file_name: str) -> int | None:
        """Return the number in a file's name, or None if it is not exactly a name that `file_name` makes."""
        digits = file_name.removesuffix(".JPEG").rpartition("_")[2]
        if not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits)
        return number if number <= _MAX_NUMBER and file_name == self.file_name(wnid, number) else None

    def path(self, wnid: str, number: int) -> str:
        """Return the path of an image relative to the data set's root, which is the image's key."""
        folder = f"{self.name}/{wnid}" if self.labeled else self.name
        return f"{folder}/{self.file_name(wnid, number)}"


SPLITS = {
    "train": Split("train", 1_281_167),
    "val": Split("val", 50_000),
    "test": Split("test", 100_000, labeled=False),
}


@dataclass(frozen=True)
class Classes:
    """The classes of a data set; their indices follow the order of their WordNet ids."""

    wnids: Sequence[str]
    names: Sequence[str]

    @cached_property
    def index(self) -> dict[str, int]:
        """The class index of each WordNet id."""
        return {wnid: index for index, wnid in enumerate(self.wnids)}

    def __len__(self) -> int:
        return len(self.wnids)

    def to_text(self) -> str:
        """Return the content of a labels file: one `wnid,name` per line."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(zip(self.wnids, self.names, strict=True))
        return text.getvalue()


def read_classes(path: Path) -> Classes:
    """Read a labels file (CSV, one `wnid,name` per line, in any order).

    Raises:
        UserError: the file cannot be read, a line is not a WordNet id and a name, or a WordNet id is listed twice.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not CSV text in UTF-8"
        raise UserError(f"labels: cannot read {path}: {reason}.") from error
    names: dict[str, str] = {}
    for line, row in enumerate(rows, start=1):
        if not row:
            continue
        wnid, name = row if len(row) == 2 else ("", "")
        if not WORDNET_ID.fullmatch(wnid) or not name.strip():
            raise UserError(
                f"labels: {path}, line {line}: '{','.join(row)}' is not a class; write lines like "
                "n01440764,tench (quote a name that has a comma)."
            )
        if wnid in names:
            raise UserError(f"labels: {path}, line {line}: {wnid} is listed twice; keep one of its lines.")
        names[wnid] = name
    if not names:
        raise UserError(f"labels: {path} names no classes; write lines like n01440764,tench.")
    wnids = tuple(sorted(names))
    return Classes(wnids, tuple(names[wnid] for wnid in wnids))
