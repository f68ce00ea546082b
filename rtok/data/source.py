"""The interface of a data set: named pictures, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from rtok.data.decoding import read_image
from rtok.errors import some


class ImageSource(Protocol):
    """A fixed list of pictures. It must be picklable, because the loader's workers get a copy."""

    @property
    def keys(self) -> Sequence[str]:
        """Each picture's unique name: its path relative to the root, where there are files."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Each picture's class index; None for data without classes."""

    @property
    def class_names(self) -> Sequence[str] | None:
        """The classes' names by index; None for data without classes."""

    @property
    def groups(self) -> Sequence[str]:
        """What each picture comes from: its own key, or the key of the photo that it is cut from.

        Pictures of one group are not independent, so intervals are clustered by group.
        """

    def __len__(self) -> int:
        """Return the number of pictures."""

    def read(self, index: int) -> Image.Image:
        """Decode one picture to 8-bit RGB, at its own size.

        Raises:
            rtok.data.decoding.DecodeError: its file is unreadable or not an image.
        """


class Ungrouped:
    """Pictures that come from nothing but themselves, as in most data sets; a subclass has their `keys`."""

    if TYPE_CHECKING:  # at run time a dataclass would take the property for a field's default

        @property
        def keys(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def groups(self) -> Sequence[str]:
        """The keys: each picture is its own group."""
        return self.keys

    def __len__(self) -> int:
        return len(self.keys)


def found(source: ImageSource) -> str:
    """Return what a data set holds and what it passed over, in words, as its `found` says if it has one."""
    return getattr(source, "found", "") or f"{len(source)} images"


def in_classes(names: Sequence[str] | None) -> str:
    """Return how many classes there are, for the middle of a sentence; "" for data without classes."""
    return "" if names is None else f", {len(names)} class{'es' * (len(names) != 1)} ({some(names)})"


@dataclass(frozen=True)
class Files(Ungrouped):
    """Image files below `root`; the keys are their paths relative to it."""

    root: Path
    keys: Sequence[str]

    def paths(self, key: str) -> list[str]:
        """Return the files that a picture is read from: text, since a `Path` takes longer than to look at the file."""
        # `!s`: without it a `Path` takes six times as long.
        return [f"{self.root!s}/{key}"]

    def read(self, index: int) -> Image.Image:
        """Decode one file."""
        return read_image(self.root / self.keys[index])


@dataclass(frozen=True)
class FileSource(Files):
    """Image files, with classes or without."""

    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None
    found: str = ""
