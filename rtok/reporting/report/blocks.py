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
    """A PNG file and what it shows.

    Attributes:
        live: the same for a page that adapts to its reader, in place of the PNG.
    """

    path: Path
    caption: str
    live: Bars | Curves | Examples | None = None


@dataclass(frozen=True)
class Point:
    """A value of a chart.

    Attributes:
        low, high: its interval; its own value where there is none.
        text: what it is, with its number.
    """

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Series:
    """Values of one kind.

    Attributes:
        look: its color and dash: see `page.css`.
        joined: whether a line goes through its points.
    """

    name: str
    look: str
    points: Sequence[Point]
    joined: bool = True


@dataclass(frozen=True)
class Bar:
    """One value with its interval, beside others.

    Attributes:
        look: see `Series`.
        shown: the number in words.
        text: see `Point`.
    """

    name: str
    look: str
    value: float
    low: float
    high: float
    shown: str
    text: str


@dataclass(frozen=True)
class Bars:
    """Values to compare: panels of groups."""

    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Bar]]]]]


@dataclass(frozen=True)
class Curves:
    """Values against another value: titled panels that share their axes."""

    panels: Sequence[tuple[str, Sequence[Series]]]
    x: str
    y: str


@dataclass(frozen=True)
class View:
    """One picture of an example: the clean image, the attacked one, ..."""

    title: str
    path: Path
    note: str = ""


@dataclass(frozen=True)
class Examples:
    """Images to look at one by one: a title, and the views of each."""

    items: Sequence[tuple[str, Sequence[View]]]


@dataclass(frozen=True)
class Listing:
    """Text as it is, folded away under a title."""

    title: str
    text: str


Block = Heading | Paragraph | Table | Figure | Listing


def printable(text: str) -> str:
    """Return text without invisible characters that act: control characters, changes of direction."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
