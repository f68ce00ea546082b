"""YAML without its surprises: the scalar rules of YAML 1.2, and nothing that can hide a mistake or exhaust memory.

Unlike YAML 1.1, which PyYAML reads: `1e-3` is a number; `no`, `1:30` and `2026-11-23` are text.
Duplicate keys, keys that are not text, aliases and tags are refused; depth and size are bounded.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from rtok.config.problems import Problem
from rtok.errors import UserError

MAX_DEPTH = 20  # the schema has four levels
# A config has a few hundred characters; the pure-Python parser reads this many in seconds.
MAX_CHARACTERS = 256 * 1024

_PREFIX = "tag:yaml.org,2002:"
# Python refuses to read integers of more than 4300 digits. One with more than 100 stays text, and is refused as text.
_SCALARS = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"[-+]?[0-9]{1,100}$"), list("-+0123456789")),
    ("float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
)
# `{root: ${DIR}}` is not YAML, since a brace ends a plain scalar. While parsing, private-use characters replace
# the signs of a variable (as many, so that columns stay correct).
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STAND_IN = re.compile("\ue000\ue001([A-Za-z_][A-Za-z0-9_]*)\ue002")


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.problems: list[Problem] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refusal("anchors and aliases (& and *) are not allowed here", event)
        if event.tag is not None:
            raise _refusal("tags (!) are not allowed here", event)
        if self.depth == MAX_DEPTH:
            raise _refusal(f"nested more than {MAX_DEPTH} deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != f"{_PREFIX}str":
                raise _refusal("a key must be text (quote it if it is)", key_node)
            key = _restore(key_node.value)
            if key in first_lines:
                self.problems.append(Problem("", f"line {line}: '{key}' was already given in line {first_lines[key]}"))
            first_lines.setdefault(key, line)
        return super().construct_mapping(node, deep)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        text = _restore(node.value)
        # From an escape: a file in UTF-8 cannot contain it.
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise _refusal("half a character (a surrogate) is not allowed", node)
        return text

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        return int(node.value)  # PyYAML's own would read 010 as octal

    def construct_number(self, node: yaml.ScalarNode) -> float:
        return float(node.value)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read back as the same text."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # Double quotes are the one style in which PyYAML reads back odd line breaks (U+0085) as they were.
        return self.represent_scalar(f"{_PREFIX}str", text, style=None if text.isprintable() else '"')


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_PREFIX + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(_PREFIX + _name, _pattern, _first)
_Loader.add_constructor(f"{_PREFIX}str", _Loader.construct_text)
_Loader.add_constructor(f"{_PREFIX}int", _Loader.construct_integer)
_Loader.add_constructor(f"{_PREFIX}float", _Loader.construct_number)
_Dumper.add_representer(str, _Dumper.represent_text)


def parse(text: str, name: str) -> tuple[object, list[Problem]]:
    """Parse one YAML document; return its value and the duplicate keys.

    Raises:
        UserError: it is not YAML, or not allowed here; the message begins with `name`, line and column.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{name}: {len(text)} characters are too long for a config (at most {MAX_CHARACTERS}).")
    try:
        loader = _Loader(_VARIABLE.sub("\ue000\ue001\\1\ue002", text))
        value = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = ", ".join(part for part in (error.context, error.problem) if part)
        tabs = " (indent with spaces, not tabs)" if r"'\t'" in why else ""
        raise UserError(f"{name}{where}: not valid YAML: {why}{tabs}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name}, line {line}: the character U+{error.character:04X} is not allowed.") from None
    return value, loader.problems


def dump(value: object) -> str:
    """Return a value as YAML that `parse` reads back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _refusal(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _restore(text: str) -> str:
    return _STAND_IN.sub(r"${\1}", text)
