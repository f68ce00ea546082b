"""The splits of a data set, under the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

T = TypeVar("T")

_SPLIT = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?)|(?P<test>test(?:ing)?))(?:[-_ ]?set)?", re.IGNORECASE
)


def split_of(name: str) -> str | None:
    """Return the split that a name stands for: `val` for `val`, `Valid`, `validation_set`; None for other names."""
    match = _SPLIT.fullmatch(name)
    return match.lastgroup if match else None


def whole_of(what: str, config: DataConfig) -> str:
    """Return what to say where `data.split` is no less than all images; `what` is missing for it to be less."""
    if config.split == "train" or config.holdout is not None:
        return ""
    return f"; there are no {what}, so {config.split} is all of them (data.holdout divides them)"


def chosen_part(parts: Mapping[str, T], config: DataConfig, where: str, names: str = "splits") -> tuple[T, str, str]:
    """Return the part that `data.split` names, what its keys begin with, and what to say if it is all of the data.

    A part alone is all of the data where `data.holdout` divides it, or its name is not that of a split. Then keys need
    no beginning.

    Args:
        parts: the parts by their own names.
        where, names: what is divided, and what divides it, for messages.

    Raises:
        UserError: there is no such split, two parts for one, or `data.holdout` would divide what is divided already.
    """
    listed, hint = ", ".join(parts), ""
    if len(parts) == 1:
        [(name, only)] = parts.items()
        if split_of(name) is None:
            return only, "", whole_of(names, config)
        if config.holdout is not None or split_of(name) == config.split:
            return only, "", ""
        hint = " data.holdout: 0.2 would divide it."
    elif config.holdout is not None:
        raise UserError(f"data.holdout: {where} is divided already, into {listed}: leave data.holdout out.")
    wanted = [name for name in parts if split_of(name) == config.split]
    if len(wanted) > 1:
        raise UserError(f"data.split: {where} has several parts for {config.split}: {', '.join(wanted)}.")
    if not wanted:
        raise UserError(f"data.split: {where} has no split '{config.split}'; it has {listed}.{hint}")
    return parts[wanted[0]], f"{wanted[0]}/", ""
