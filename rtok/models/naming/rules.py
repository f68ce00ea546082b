"""Key tables: rules that map a file's keys to timm's. Plain data; `transforms.py` has the arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """One or more keys of a file and the timm keys that they become.

    `{i}` stands for the number of every block, `{p}` for `weight` and `bias`. `how` names a transform of
    `transforms.py`, which also has the inverse.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    how: str = "same"


def rename(theirs: str, ours: str, how: str = "same") -> Rule:
    """Return the rule that renames one key."""
    return Rule((theirs,), (ours,), how)


@dataclass(frozen=True)
class Naming:
    """The names that one code base gives to the weights of one architecture.

    `rest_is_same`: keys without a rule have timm's names. `extras`: patterns (fnmatch) of keys that a file may have but
    that are not part of the backbone, each with what it is.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    rest_is_same: bool = True
    extras: Mapping[str, str] = field(default_factory=dict)
