"""What a data set is to the rest of rtok: named pictures, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from rtok.data.decoding import read_image


class ImageSource(Protocol):
    """A list of pictures, fixed once it is open. Sources are pickled into a loader's workers."""

    @property
    def keys(self) -> Sequence[str]:
        """Each picture's identity: unique, and a relative path where there are files."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Each picture's class index, where the data has classes."""

    @property
    def class_names(self) -> Sequence[str] | None:
        """The classes' names by index, where the data has classes."""

    @property
    def groups(self) -> Sequence[str]:
        """What each picture was taken from: its own key, or the photo it is cut from.

        Pictures of one group are not independent; intervals are clustered by it.
        """

    def __len__(self) -> int:
        """Return the number of pictures."""

    def read(self, index: int) -> Image.Image:
        """Decode one picture to 8-bit RGB, at its own size.

        Raises:
            rtok.data.decoding.DecodeError: its file is unreadable or no image.
        """


@dataclass(frozen=True)
class FileSource:
    """Image files below `root`; the keys are their paths from there."""

    root: Path
    keys: Sequence[str]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None

    @property
    def groups(self) -> Sequence[str]:
        """Each picture is a group of its own."""
        return self.keys

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Image.Image:
        """Decode one file."""
        return read_image(self.root / self.keys[index])
