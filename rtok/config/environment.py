"""`${VAR}` in config values: the environment first, then `.env` in the current folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from dotenv import dotenv_values

from rtok.config.problems import Problem
from rtok.errors import UserError

_PATTERN = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<malformed>\$\{)")


def substitute(value: object) -> tuple[object, list[Problem]]:
    """Replace every `${VAR}` in the texts of a parsed config; `$${` stands for a literal `${`.

    A replaced value stays text: a variable can never add keys. Variables that are not set are returned as problems.
    """
    problems: list[Problem] = []
    dotenv = cache(_read_dotenv)  # read once, and only if a variable is not in the environment

    def replace(path: str, text: str) -> str:
        def look_up(match: re.Match[str]) -> str:
            name = match["name"]
            if match["escaped"]:
                return "${"
            if match["malformed"]:
                problems.append(
                    Problem(path, "'${' does not begin a variable; write ${NAME}, or $${ for the text itself")
                )
            elif (found := os.environ.get(name, dotenv().get(name))) is not None:
                return found
            else:
                problems.append(
                    Problem(path, f"${{{name}}} is not set; set it in the environment or in a .env file here")
                )
            return match[0]

        return _PATTERN.sub(look_up, text)

    return map_texts(value, replace), problems


def escape(value: object) -> object:
    """Escape the literal `${` of resolved values, so that reading them again changes nothing."""
    return map_texts(value, lambda _, text: text.replace("${", "$${"))


def map_texts(value: object, change: Callable[[str, str], object], path: str = "") -> object:
    """Return a copy of nested mappings and lists, with `change(path, text)` applied to every text value."""
    prefix = f"{path}." if path else ""
    if isinstance(value, str):
        return change(path, value)
    if isinstance(value, Mapping):
        return {key: map_texts(item, change, f"{prefix}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [map_texts(item, change, f"{prefix}{index}") for index, item in enumerate(value)]
    return value


def _read_dotenv() -> dict[str, str | None]:
    path = Path(".env")
    if not path.is_file():
        return {}
    try:
        return dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file .env in the current folder cannot be read: {error}.") from None
