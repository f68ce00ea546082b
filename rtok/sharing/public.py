"""What of a run everybody may know: no text of it tells where files lie on the machine that it ran on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_PLACES = ("root", "extra", "out", "from", "path")  # keys of a config that say where something lies, and nothing else
# What else of its texts may have a slash.
_HARMLESS = re.compile(r"[\d.]+/[\d.]+|(?:timm:)?(?:hf|hf-hub):\S+")
_ON_HUB = ("repo",)
_GONE = object()


def without_places(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a config without the folders and files that it names, and those names.

    Of a file that says what was used, such as weights, the name remains without its folders.
    """
    hidden: list[str] = []
    kept = _kept("", settings, hidden)
    assert isinstance(kept, dict)
    return kept, list(dict.fromkeys(hidden))


def _kept(key: str, value: Any, hidden: list[str]) -> Any:
    if isinstance(value, Mapping):
        parts = {name: _kept(str(name), inner, hidden) for name, inner in value.items()}
        return {name: part for name, part in parts.items() if part is not _GONE}
    if isinstance(value, list | tuple):
        return [part for inner in value if (part := _kept(key, inner, hidden)) is not _GONE]
    if not isinstance(value, str):
        return value
    if key in _PLACES:
        hidden.append(value)
        return _GONE
    if ("/" in value or "\\" in value) and key not in _ON_HUB and not _HARMLESS.fullmatch(value):
        hidden.append(value)
        return last_part(value)
    return value


def last_part(path: str) -> str:
    """Return what a path names, without the folders before it."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


@dataclass(frozen=True)
class Renaming:
    """Puts public names in the place of those that only this machine knows, in every text of JSON.

    Attributes:
        names: public names by private ones.
    """

    names: Mapping[str, str]

    @classmethod
    def of(cls, run: Path, files: Mapping[str, str], hidden: Iterable[str]) -> Renaming:
        """Return what renames the files of a run's defenses, other places of its config, and folders of this machine.

        Args:
            files: public names of the defenses by their places.
            hidden: other places; of each the last part of its path remains.
        """
        places = {text: last_part(text) for text in hidden} | dict(files)
        absolute = {str(Path(text).absolute()): name for text, name in places.items()}
        machine = {str(run.absolute()): run.name, str(run.resolve()): run.name}
        machine |= {str(Path.cwd()): ".", str(Path.home()): "~"}
        everything = {**machine, **absolute, **places}
        return cls({text: name for text, name in everything.items() if text.strip("/.~")})

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first: Sequence[str] = sorted(self.names, key=len, reverse=True)
        return re.compile(rf"(?<![\w/])(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def __call__(self, value: Any) -> Any:
        """Return JSON with other names."""
        if isinstance(value, str):
            return self._pattern.sub(lambda found: self.names[found[0]], value)
        if isinstance(value, Mapping):
            return {self(key): self(inner) for key, inner in value.items()}
        return [self(inner) for inner in value] if isinstance(value, list) else value
