"""The one exception that means "the user's input is wrong"."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The input is wrong: the command line prints the message alone and exits with 2.

    The message says what was given, what is valid and how to fix it.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest valid name, or `""` when none is close."""
    matches = get_close_matches(name, list(valid), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def listed(names: Iterable[str], word: str = "and") -> str:
    """Return names as a sentence has them: `a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def some(names: Iterable[str], most: int = 3) -> str:
    """Return the first `most` names as `a, b, c, ...`, without dots where these are all."""
    listed = list(names)
    return ", ".join(listed[:most]) + ", ..." * (len(listed) > most)


def printable(line: str) -> str:
    """Escape control characters, so that a file cannot write what it likes to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
