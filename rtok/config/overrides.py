"""`--set key.path=value`: changes to a config from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtok.config import strict_yaml
from rtok.config.problems import Problem, show
from rtok.errors import UserError

# Two names of one key: an override uses the name that the file has.
_NAMES = {"tokens": "defense", "defense": "tokens"}


def apply_overrides(raw: dict, overrides: Sequence[str]) -> list[Problem]:
    """Change the parsed config in place, in the given order; return the overrides that are wrong.

    The value is YAML (`--set 'attack={from: DIR}'`), a number in the path is an index into a list
    (`attack.0.steps`), and missing sections are added.
    """
    problems = []
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            problems.append(Problem("", f"--set {override}: write it as key.path=value, for example train.steps=50"))
            continue
        try:
            value, duplicates = strict_yaml.parse(text, f"--set {path}")
        except UserError as error:
            problems.append(Problem("", str(error)))
            continue
        problems += [Problem("", f"--set {path}: {text}") for _, text in duplicates]
        problem = _put(raw, keys, value)
        if problem:
            problems.append(Problem("", f"--set {override}: {problem}"))
    return problems


def _put(target: Any, keys: list[str], value: object) -> str | None:
    """Store a value at a path below `target`; return what is wrong with the path, if anything."""
    for depth, key in enumerate(keys):
        here = ".".join(keys[:depth])
        index: int | str = key
        if isinstance(target, list):
            if not (key.isascii() and key.isdigit() and int(key) < len(target)):
                return f"'{here}' is a list; '{key}' is not one of its indices 0 to {len(target) - 1}"
            index = int(key)
        elif not isinstance(target, dict):
            return f"'{here}' is {show(target)}, not a mapping; set the whole key with --set '{here}={{...}}'"
        elif _NAMES.get(key) in target:
            index = _NAMES[key]
        if depth == len(keys) - 1:
            target[index] = value
        else:
            if isinstance(target, dict) and target.get(index) is None:
                target[index] = {}
            target = target[index]
    return None
