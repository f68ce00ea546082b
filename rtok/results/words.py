"""Numbers and names as people read them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath


def counted(number: int, noun: str) -> str:
    """Say how many: `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    """Start with a capital, and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def detailed(text: str, details: Iterable[str]) -> str:
    """Add details in parentheses where there are any: `robust (10, plain head)`."""
    joined = ", ".join(details)
    return f"{text} ({joined})" if joined else text


def of_255(value: float) -> str:
    """Return a pixel difference as the field writes it: `8/255`, `1.8/255`."""
    return f"{value * 255:.1f}".removesuffix(".0") + "/255"


def with_interval(value: float, bounds: Sequence[float] | None, digits: int = 3, *, sign: str = "") -> str:
    """Return `0.692 ± 0.031`, `0.950 [0.931, 0.964]` where that is lopsided, or the value alone.

    Args:
        sign: `+` shows the sign of positive numbers too.
    """
    form = f"{sign}.{digits}f"
    if bounds is None:
        return format(value, form)
    low, high = bounds
    if abs((high - value) - (value - low)) < 10.0**-digits:
        return f"{value:{form}} ± {(high - low) / 2:.{digits}f}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def short_names(files: Iterable[str]) -> dict[str, str]:
    """Map every defense file to the shortest name that tells it from the others.

    `a/rtokens-10.safetensors` is `10`, `a/rtokens.safetensors` is `a`, and a stack is the names of its files; where two
    would be the same, paths are kept but for the folders that all of them share.
    """
    paths = list(dict.fromkeys(files))
    short = {path: " + ".join(_stem(PurePath(file)) for file in path.split(" + ")) for path in paths}
    if len(set(short.values())) == len(paths):
        return short
    mixed = len({PurePath(path).is_absolute() for path in paths}) > 1
    shared = "" if mixed else os.path.commonpath([PurePath(path).parent for path in paths])
    return {path: os.path.relpath(path, shared) if shared else path for path in paths}


def _stem(path: PurePath) -> str:
    """Return what a file's name says beyond `rtokens`, or its folder's name where that is nothing."""
    rest = path.stem.removeprefix("rtokens").removeprefix("-")
    return rest or path.parent.name or path.stem
