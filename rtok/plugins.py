"""Python files and installed packages that add names to rtok: they run before a config is read, and only when asked.

A config alone never runs code: a plugin is a file that the command line names, or an installed package with an entry
point in the group `rtok.plugins` (a module, or a callable without arguments).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TypeVar

from rtok.errors import UserError

GROUP = "rtok.plugins"
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """A plugin file that was loaded, for the record of a run: its path, and the SHA-256 of its bytes."""

    path: Path
    sha256: str


@cache
def load_installed() -> tuple[str, ...]:
    """Load every entry point of the group once; return their names.

    Raises:
        UserError: one of them fails.
    """
    names = []
    for point in entry_points(group=GROUP):
        loaded = _guarded(f"The installed plugin '{point.name}' ({point.value})", point.load)
        if callable(loaded):
            _guarded(f"The installed plugin '{point.name}' ({point.value})", loaded)
        names.append(point.name)
    return tuple(names)


def load_plugins(files: Iterable[str | Path] | None) -> list[Plugin]:
    """Load the installed plugins, then these files, as a command is told to.

    Raises:
        UserError: one of them fails.
    """
    load_installed()
    return [load_plugin(file) for file in files or ()]


def load_plugin(path: str | Path) -> Plugin:
    """Run a Python file; the same file is run once.

    Raises:
        UserError: it is not a Python file, cannot be read, or fails.
    """
    path = Path(path).expanduser()
    if path.suffix != ".py":
        raise UserError(f"--plugin {path} is not a Python file: give a file whose name ends in .py.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"--plugin {path} cannot be read: {error.strerror}.") from None
    plugin = Plugin(path.resolve(), hashlib.sha256(content).hexdigest())
    name = f"rtok_plugin_{plugin.sha256[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, plugin.path)
        assert spec is not None and spec.loader is not None  # the name ends in .py
        module = module_from_spec(spec)
        sys.modules[name] = module  # what the file defines can be pickled
        try:
            _guarded(f"--plugin {path}", partial(spec.loader.exec_module, module))
        except BaseException:
            del sys.modules[name]
            raise
    return plugin


def _guarded(what: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} fails with {type(error).__name__}: {error}") from error
