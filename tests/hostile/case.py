"""A hostile input: how it is made, what rtok is called with, and how that has to end."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

# refused: exit 2, one message, no run folder. stopped: exit 2, one message, a run that can go on. fine: exit 0.
Outcome = Literal["refused", "stopped", "fine"]


@dataclass
class World:
    """A case's own folder, and a config that runs."""

    folder: Path
    good: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def config(self, **changes: Any) -> dict[str, Any]:
        """The good config with some keys changed, `section__key` in a section."""
        config = copy.deepcopy(self.good)
        for name, value in changes.items():
            section, _, key = name.partition("__")
            if key:
                config.setdefault(section, {})[key] = value
            else:
                config[section] = value
        return {**config, "out": changes.get("out", str(self.out))}

    def run(self, command: str, config: dict[str, Any] | bytes | str, *more: str) -> list[str]:
        """Write a config and return the arguments that run it."""
        content = yaml.safe_dump(config) if isinstance(config, dict) else config
        return [command, "--config", str(self.write("hostile.yaml", content)), *more]


@dataclass(frozen=True)
class Case:
    """One input; `make` writes it and returns rtok's arguments, `words` must be in the message."""

    name: str
    make: Callable[[World], list[str]]
    outcome: Outcome = "refused"
    words: tuple[str, ...] = ()
