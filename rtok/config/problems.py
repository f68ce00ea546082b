"""The mistakes in a config, collected so that the user sees all of them at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from rtok.errors import UserError, printable

LONGEST_SHOWN = 60  # characters of a wrong value that an error shows


class Problem(NamedTuple):
    """One mistake: the dotted path of the key (may be empty) and a text about it."""

    path: str
    text: str


def show(value: object) -> str:
    """Return a value as the user would write it, shortened to one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def given(value: object, valid: str) -> str:
    """Return the sentence for a wrong value."""
    return f"{show(value)} was given; valid: {valid}"


def report(where: str, problems: Sequence[Problem]) -> UserError:
    """Return the error that lists every problem, one per line."""
    heading = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    lines = [f"{path}: {text}" if path else text for path, text in problems]
    return UserError("\n  ".join(map(printable, [f"{where}: {heading}", *lines])))
