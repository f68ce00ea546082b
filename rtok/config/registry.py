"""What can be added from outside by name: attacks, threats, defenses, data sets.

An entry names where the algorithm lives, which is imported when a run starts: reading a config needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from rtok.config.types import Section, expected
from rtok.errors import UserError, listed, nearest


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        about: a sentence for the docs.
        home: the algorithm itself, or `module:name`, where it is found once it is needed.
        section: its settings; None where the noun has none of its own.
        traits: what else rules ask, such as `masks` of a data set that has them.
    """

    name: str
    about: str
    home: Any
    section: type[Section] | None = None
    traits: frozenset[str] = frozenset()

    def load(self) -> Any:
        """Return the algorithm."""
        if not isinstance(self.home, str):
            return self.home
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)


class Registry:
    """The registered names of one noun, in the order of their registration."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, Entry] = {}
        self._listeners: list[Callable[[], None]] = []

    def add(
        self, name: str, home: Any, *, about: str = "", section: type[Section] | None = None, traits: Iterable[str] = ()
    ) -> None:
        """Register a name.

        Raises:
            UserError: it is taken by something else.
        """
        entry = Entry(name, about, home, section, frozenset(traits))
        if self._entries.get(name, entry) != entry:
            raise UserError(f"The {self.noun} '{name}' is registered already: choose another name.")
        self._entries[name] = entry
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every later registration."""
        self._listeners.append(listener)

    def remove(self, name: str) -> None:
        """Forget a name; what tests register must not outlive them."""
        del self._entries[name]
        for listener in self._listeners:
            listener()

    def find(self, name: str) -> Entry:
        """Return an entry.

        Raises:
            UserError: there is none; the message has the valid names.
        """
        if name not in self._entries:
            raise UserError(
                f"There is no {self.noun} '{name}'.{nearest(name, self._entries)} Valid: {', '.join(self._entries)}."
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def entries(self) -> list[Entry]:
        """Return all entries."""
        return list(self._entries.values())

    def described(self) -> str:
        """Return every name with what is said about it, for the description of a key."""
        return "; ".join(f"`{entry.name}`: {entry.about}" for entry in self.entries())


class NameIn:
    """Marks a config key that holds a registered name: `Annotated[str, NameIn(registry)]`.

    It is looked up when a config is read, so names that are registered later count too.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the check of a text."""
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def check(self, written: object) -> object:
        """Return a registered name, or raise the error that lists all of them."""
        if not isinstance(written, str) or written not in self.registry:
            valid = listed(self.registry, "or")
            hint = nearest(str(written), self.registry)
            raise expected(f"{valid}.{hint}" if hint else valid)
        return written


class SectionOf:
    """Marks a config key that holds the section of a registered name: `Annotated[Base, SectionOf(registry, choose)]`.

    Args:
        choose: from what was written (a mapping or a section) to the name; an unknown one becomes a known one, whose
            section then says what is wrong.

    The sections are those that are registered when the model is built: a later registration calls
    `model_rebuild(force=True)` on every model with such a key.
    """

    def __init__(self, registry: Registry, choose: Callable[[Any], str]) -> None:
        self.registry = registry
        self.choose = choose

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build a union of the registered sections; error paths leave out its tags, which are in brackets."""
        return core_schema.tagged_union_schema(
            {
                f"<{entry.name}>": handler.generate_schema(entry.section)
                for entry in self.registry.entries()
                if entry.section is not None
            },
            discriminator=lambda written: f"<{self.choose(written)}>",
        )


ATTACKS = Registry("attack")
THREATS = Registry("threat")
DEFENSES = Registry("defense")
DATASETS = Registry("data set")
