"""What the rows of `results.json` are, in words: the attack, its radius, short names of token files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

Row = Mapping[str, Any]
ATTACK = ("attack", "norm", "eps", "units")  # what tells one attack from another

# Mean of ImageNet's per-channel standard deviations: a radius in normalised space is about this much in
# pixels.
IMAGENET_STD = (0.229 + 0.224 + 0.225) / 3


def counted(number: int, noun: str) -> str:
    """Say how many: `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def in_words(key: str) -> str:
    """A column's key as text: `adversarial_miou` is "adversarial mIoU"."""
    return key.replace("_", " ").replace("miou", "mIoU")


def capital(text: str) -> str:
    """Start with a capital, and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def by_attack(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Group rows by their attack and return `(title, rows)`, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in ATTACK), []).append(row)
    return [(attack_title(group), group) for group in groups.values()]


def attack_title(rows: Sequence[Row]) -> str:
    """Say what the attack of these rows was: `attack standard: Linf radius 8/255 in pixels, 30 steps`."""
    title = f"attack {rows[0].get('attack') or 'none'}"
    if rows[0].get("eps") is not None:
        title += f": {radius(rows[0])}"
    parts = [title]
    for key in ("steps", "restarts"):
        counts = sorted({row[key] for row in rows if row.get(key) is not None})
        if counts and not (key == "restarts" and counts == [1]):
            parts.append(f"{' or '.join(map(str, counts))} {key.removesuffix('s') if counts == [1] else key}")
    return ", ".join(parts)


def radius(row: Row) -> str:
    """Say a row's radius, and in pixels too where it holds in normalised space.

    There the radius of a channel in pixels is eps times the channel's standard deviation. A row that knows
    the mean over its model's channels carries it as `eps_pixel`; else ImageNet's is taken, and the text
    says so.
    """
    norm = {"linf": "Linf", "l2": "L2"}.get(row.get("norm") or "", "")
    eps = _size(row["eps"], norm)
    if row.get("units") != "normalized":
        return f"{norm} radius {eps} in pixels".strip()
    pixel, source = row.get("eps_pixel"), ""
    if pixel is None:
        pixel, source = row["eps"] * IMAGENET_STD, " with ImageNet's statistics"
    return f"{norm} radius {eps} in normalised space, about {_size(pixel, norm)} in pixels{source}".strip()


def of_255(value: float) -> str:
    """Return a pixel difference as the field writes it: `8/255`, `1.8/255`."""
    return f"{value * 255:.1f}".removesuffix(".0") + "/255"


def token_names(rows: Iterable[Row]) -> dict[str, str]:
    """Map every token file of `rows` to the shortest name that tells it from the others.

    `a/rtokens-10.safetensors` is `10`, `a/rtokens.safetensors` is `a`; where two would be the same, paths
    are kept but for the folders that all of them share.
    """
    paths = list(dict.fromkeys(str(row["tokens"]) for row in rows if row.get("tokens") is not None))
    short = {path: _stem(PurePath(path)) for path in paths}
    if len(set(short.values())) == len(paths):
        return short
    mixed = len({PurePath(path).is_absolute() for path in paths}) > 1
    shared = "" if mixed else os.path.commonpath([PurePath(path).parent for path in paths])
    return {path: os.path.relpath(path, shared) if shared else path for path in paths}


def _stem(path: PurePath) -> str:
    """Return what a token file's name says beyond `rtokens`, or its folder's name where that is nothing."""
    rest = path.stem.removeprefix("rtokens").removeprefix("-")
    return rest or path.parent.name or path.stem


def _size(eps: float, norm: str) -> str:
    return f"{eps:.3g}" if norm == "L2" else of_255(eps)
