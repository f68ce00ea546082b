"""Atomic writes (under a temporary name in the same folder, then renamed), and what marks the folder of a run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rtok.errors import UserError

TEMPORARY = ".*.tmp*"  # what `atomic_path` makes
LOCK_FILE = ".rtok.lock"  # held while a run writes into its folder
_PIECE = 2**20  # bytes


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    # A config.yaml alone may be the user's own.
    begun = (folder / "state").is_dir() or (folder / LOCK_FILE).exists()
    return any((folder / name).exists() for name in ("run.json", "attack.json")) or (
        begun and (folder / "config.yaml").exists()
    )


def where(path: Path) -> str:
    """Return, for a message, what a relative path is relative to; `""` for an absolute one."""
    return "" if path.is_absolute() else f" (relative to the working directory, {Path.cwd()})"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; it is read piece by piece, since weights may be larger than memory.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with `path`'s suffix; it becomes `path` on success and is removed on failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file completely, or leave the old one as it is."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that a run has written.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): recreate it with --overwrite.") from error
    return content


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON; NaN is refused, since it is not JSON."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
