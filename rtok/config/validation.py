"""From parsed YAML to a `Config`, with every mistake named by its dotted path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rtok.config.problems import Problem, given
from rtok.config.registry import ATTACKS, DEFENSES, SectionOf
from rtok.config.schema import Config
from rtok.config.types import Section
from rtok.errors import nearest

# What is valid, for pydantic's own types of error; `ctx` fills in the numbers.
_EXPECTED = {
    "string_type": "text (quote it if it looks like something else)",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "union_tag_invalid": "{expected_tags}",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "list_type": "a list",
}


def validate(raw: dict[str, Any]) -> tuple[Config, list[Problem]]:
    """Check parsed YAML against the schema.

    Returns the config and its problems. Top-level keys with problems hold their defaults, so that rules
    between the others can still be checked.
    """
    try:
        return Config.model_validate(raw), []
    except ValidationError as error:
        # `out` derives from the other keys. Without them it has no default, which is not a mistake of its own.
        mistakes = [details for details in error.errors() if details["type"] != "default_factory_not_called"]
        problems = [describe(details) for details in mistakes]
        wrong = {str(details["loc"][0]) for details in mistakes}
    sound = {key: value for key, value in raw.items() if key not in wrong}
    stand_ins = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}}
    return Config.model_validate({**stand_ins, **sound}), problems


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a field's type may hold, the registered ones included."""
    marks = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, SectionOf)]
    if marks:
        yield from (entry.section for entry in marks[0].registry.entries() if entry.section)
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from sections_in(part)


def key_names(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a section's fields by the names that a config file uses."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def other_names(section: type[BaseModel]) -> dict[str, str]:
    """Return the further names that keys have, such as `tokens` for `defense`."""
    return {
        str(choice): name
        for name, field in section.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for choice in field.validation_alias.choices
        if choice != name
    }


def describe(details: ErrorDetails, root: type[BaseModel] = Config) -> Problem:
    """Say what pydantic found wrong in a mapping of the section `root`."""
    keys = [key for key in details["loc"] if not str(key).startswith("<")]
    path = ".".join(map(str, keys))
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "rule":
        return Problem(path, details["msg"])
    if kind == "missing":
        return Problem(path, "is missing")
    if kind == "extra_forbidden":
        return Problem(path, _unknown_key(root, details["loc"]))
    if kind == "expected":
        return Problem(path, given(value, details["msg"]))
    words = _EXPECTED[kind].format(**context) if kind in _EXPECTED else details["msg"]
    words = words.replace("False", "false")  # one of the choices, as YAML has it
    hint = nearest(str(value), _choices(words)) if kind == "literal_error" else ""
    return Problem(path, given(value, words.translate(_PLAIN)) + (f".{hint}" if hint else ""))


_PLAIN = str.maketrans("", "", "<>'")


def _choices(expected: str) -> list[str]:
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _unknown_key(root: type[BaseModel], location: tuple[int | str, ...]) -> str:
    section, wrong = _section_at(root, location[:-1]), str(location[-1])
    valid, others = key_names(section), other_names(section)
    if wrong in others:
        return f"is another name of {others[wrong]}, which is written too: remove one of them"
    hint = nearest(wrong, valid) or _home(wrong)
    return f"unknown key.{hint} Valid here: {', '.join(valid)}"


def _section_at(root: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the section that a location of pydantic's leads to; tags in it choose among shapes and sections."""
    tags: dict[type[BaseModel] | None, str] = {
        entry.section: f"<{entry.name}>" for registry in (ATTACKS, DEFENSES) for entry in registry.entries()
    }
    annotation: Any = root
    sections: list[type[BaseModel]] = [root]
    for key in map(str, (key for key in location if isinstance(key, str))):
        if key.startswith("<"):
            annotation = next(_tagged(annotation, key), annotation)
            within: list[type[BaseModel]] = list(sections_in(annotation))
            sections = [section for section in within if tags.get(section) == key] or within
        else:
            name = other_names(sections[0]).get(key, key)
            annotation = key_names(sections[0])[name].annotation
            sections = list(sections_in(annotation))
    return sections[0]


def _tagged(annotation: Any, tag: str) -> Iterator[Any]:
    """Yield the parts of a type that are for the values of this shape."""
    for part in get_args(annotation):
        if any(isinstance(mark, Tag) and mark.tag == tag for mark in getattr(part, "__metadata__", ())):
            yield part
        else:
            yield from _tagged(part, tag)


def _home(key: str) -> str:
    """Say where a key belongs that was written in the wrong section."""
    if key in Config.model_fields:
        return " It belongs to the top level."
    for name, field in Config.model_fields.items():
        if any(key in key_names(section) for section in sections_in(field.annotation)):
            return f" It belongs to '{name}'."
    return ""
