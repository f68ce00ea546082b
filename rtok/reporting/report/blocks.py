"""What a report is made of, before it is Markdown or HTML. All text is plain text; renderers escape it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `alarm` makes it stand out."""

    text: str
    alarm: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        numbers: the columns that hold numbers, which are right-aligned.
        strong: the main columns.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A PNG file and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Listing:
    """Text as it is, folded away under a title."""

    title: str
    text: str


Block = Heading | Paragraph | Table | Figure | Listing


def printable(text: str) -> str:
    """Return text without invisible characters that act: control characters, changes of direction."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
