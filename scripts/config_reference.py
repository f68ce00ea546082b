"""Every config key as Markdown, from the schema: `python scripts/config_reference.py FILE` writes the page."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rtok.config import strict_yaml
from rtok.config.attack_presets import PRESETS
from rtok.config.registry import ATTACKS, DATASETS, DEFENSES, THREATS, NameIn, Registry
from rtok.config.schema import Config
from rtok.config.types import Section, as_fraction
from rtok.config.validation import key_names, sections_in

_INTRODUCTION = """\
# Config keys

*Generated from the schema by `make docs`; a test checks that it is current.*

A config is a YAML file with the same keys for all commands. Unknown keys are errors, and all mistakes are reported
at once. `--set key.path=value` changes a key (`--set attack.0.steps=5` reaches into a list), `${VAR}` reads the
environment and `.env`, and `--dry-run` prints what a run would use and do. Fractions such as `8/255` are numbers.
"""
_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", type(None): "null"}
# Keys whose section is chosen by one of its own keys.
_CHOICES = {"attack": ("method", ATTACKS), "defense": ("kind", DEFENSES)}
_REGISTRIES = {"Attack methods": ATTACKS, "Threats": THREATS, "Data sets": DATASETS, "Kinds of defense": DEFENSES}


def render() -> str:
    """Return the page."""
    parts = [_INTRODUCTION, "## The top level\n", _table(Config, "")]
    for name, field in key_names(Config).items():
        sections = list(dict.fromkeys(sections_in(field.annotation)))
        if sections:
            parts.append(f"## `{name}`\n")
        shown: set[str] = set()
        for section in sections:
            kind = _CHOICES.get(name)
            if kind and section in _named(kind[1]):
                parts.append(f"### `{name}.{kind[0]}: {_named(kind[1])[section]}`\n")
            # A section that goes on from another one shows the keys that it adds.
            parts += [f"{inspect.getdoc(section)}\n", _table(section, f"{name}.", shown)]
            parts += _inner(section, name)
            shown |= set(key_names(section))
        if name == "attack":
            parts.append(_presets())
    for title, registry in _REGISTRIES.items():
        if registry.entries():
            parts += [f"## {title}\n", _registered(registry)]
    return "\n".join(parts)


def _inner(section: type[Section], path: str) -> Iterator[str]:
    """The sections inside a section, except for those that stand on their own at the top level as well."""
    known = {inner for field in Config.model_fields.values() for inner in sections_in(field.annotation)}
    for name, field in key_names(section).items():
        for inner in sections_in(field.annotation):
            if inner not in known and all(key.description for key in inner.model_fields.values()):
                yield f"### `{path}.{name}`\n\n{inspect.getdoc(inner)}\n"
                yield _table(inner, f"{path}.{name}.")


def _named(registry: Registry) -> dict[type[Section] | None, str]:
    return {entry.section: entry.name for entry in registry.entries() if entry.section}


def _registered(registry: Registry) -> str:
    """List the names of a registry; plugins add more."""
    lines = [f"| `{entry.name}` | {entry.about.replace('|', chr(92) + '|')} |" for entry in registry.entries()]
    return "\n".join(["| name | what it is |", "| --- | --- |", *lines]) + "\n"


def _table(section: type[Section], prefix: str, without: Collection[str] = ()) -> str:
    lines = ["| key | default | valid | what it is |", "| --- | --- | --- | --- |"]
    for name, field in key_names(section).items():
        if name in without:
            continue
        cells = (
            f"`{prefix}{name}`",
            _default(field),
            _words(field.annotation, tuple(field.metadata)),
            field.description or "",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see there"
    if field.default is PydanticUndefined:
        return "required"
    return "see below" if isinstance(field.default, Section) else f"`{_yaml(field.default)}`"


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    value = as_fraction(value)
    return strict_yaml.dump([value]).strip().removeprefix("- ")


def _words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Say what a type holds."""
    names = next((mark.registry for mark in metadata if isinstance(mark, NameIn)), None)
    if names is not None:
        return ", ".join(f"`{name}`" for name in names)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], (*metadata, *annotation.__metadata__))
    if origin is Literal:
        return ", ".join(f"`{_yaml(word)}`" for word in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part, metadata) for part in arguments))
    if origin is list:
        return f"a list of {_words(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(_words(part) for part in arguments)}]"
    if issubclass(annotation, Section):
        return "section"
    return _NAMES[annotation] + _range(tuple(_constraints(metadata)))


def _constraints(metadata: Iterable[Any]) -> Iterator[Any]:
    for constraint in metadata:
        yield constraint
        yield from _constraints(getattr(constraint, "metadata", ()))  # inside pydantic's Field


def _range(constraints: Sequence[Any]) -> str:
    """State the bounds: ` (1 to 8)`, ` (above 0)`."""
    at_least = next((c.ge for c in constraints if isinstance(c, annotated_types.Ge)), None)
    above = next((c.gt for c in constraints if isinstance(c, annotated_types.Gt)), None)
    at_most = next((c.le for c in constraints if isinstance(c, annotated_types.Le)), None)
    if at_least is not None and at_most is not None:
        return f" ({at_least} to {at_most})"
    said = (("above", above), ("at least", at_least), ("at most", at_most))
    bounds = [f"{word} {bound}" for word, bound in said if bound is not None]
    return f" ({', '.join(bounds)})" if bounds else ""


def _presets() -> str:
    lines = ["What a preset changes in its method's defaults:\n", "| preset | options |", "| --- | --- |"]
    for name, options in PRESETS.items():
        settings = ", ".join(f"`{key}: {_yaml(value)}`" for key, value in options.items())
        lines.append(f"| `{name}` | {settings or 'nothing'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
