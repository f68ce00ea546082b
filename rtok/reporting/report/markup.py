"""Text of runs as HTML and SVG show it."""

from __future__ import annotations

from html import escape

from rtok.reporting.report.blocks import printable


def text(words: str) -> str:
    """Return text that HTML shows as it is, as content and in a quoted attribute."""
    return escape(printable(words))
