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


def printable(line: str) -> str:
    """Spell out control characters, so that a file cannot write to the terminal what it likes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
