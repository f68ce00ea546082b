"""What trainings and adversarial sets write, checked while it is read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rtok.results.files import damaged, read_text
from rtok.results.rows import Number

_TRAINED = ("step", "count", "seed", "invariance", "adversarial", "undefended", "seconds")
_STEP = TypeAdapter(dict[str, Number | None])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a training's journal; the last line of a run that was killed may be torn."""
    rows = []
    for number, line in enumerate(read_text(path, missing="").splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            _STEP.validate_python({key: row.get(key) for key in _TRAINED})
        except (AttributeError, RecursionError, ValueError) as error:
            raise damaged(path, f"line {number} is not a training step") from error
        rows.append(row)
    return rows


def read_manifest(path: Path) -> list[dict[str, str]]:
    """Read the manifest of an adversarial set; an unfinished one has none."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, missing=""))))
        for row in rows:
            float(row["linf_255"])
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise damaged(path, "a line does not say how far its image moved") from error
    return rows
