"""What two runs of one config have to have in common: everything but clocks and command lines."""

from __future__ import annotations

import json
from pathlib import Path

MOVING = ("seconds", "command", "git")


def content(out: Path) -> dict[str, object]:
    """Return every file of a run by its path, without what differs between two runs of one config.

    What `state` holds is no result; only its files' names are compared.
    """
    return {str(path.relative_to(out)): _content(path) for path in sorted(out.rglob("*")) if path.is_file()}


def _content(path: Path) -> object:
    if path.parent.name == "state":
        return None
    if path.name in ("run.json", "attack.json"):
        return _without_moving(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [_without_moving(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def _without_moving(row: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if key not in MOVING}
