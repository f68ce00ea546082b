"""What trainings, adversarial sets and the examples of runs hold, checked while it is read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints, TypeAdapter, ValidationError

from rtok.reporting.report.blocks import Examples, View
from rtok.results.files import damaged, read_json, read_text
from rtok.results.rows import Number

_TRAINED = ("step", "count", "seed", "invariance", "adversarial", "undefended", "seconds")
_STEP = TypeAdapter(dict[str, Number | None])
# Names that lead nowhere else: what a run writes there, and nothing with a slash.
_Name = Annotated[str, StringConstraints(pattern=r"^[0-9]+-[0-9]+\.png$")]


class _View(BaseModel):
    title: str
    file: _Name
    note: str = ""


class _Example(BaseModel):
    title: str
    views: list[_View]


class _Examples(BaseModel):
    examples: list[_Example]


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


def read_moved(path: Path) -> list[float]:
    """Read from an adversarial set's manifest how far each image moved; an unfinished set has none."""
    try:
        return [float(row["linf_255"]) for row in csv.DictReader(io.StringIO(read_text(path, missing="")))]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise damaged(path, "a line does not say how far its image moved") from error


def read_examples(path: Path, is_picture: Callable[[Path], bool]) -> Examples | None:
    """Read the index of a run's examples; pictures that are missing are left out, and so are examples without any."""
    if not path.exists():
        return None
    try:
        found = _Examples.model_validate(read_json(path)).examples
    except ValidationError as error:
        raise damaged(path, "it does not list examples") from error
    items = []
    for example in found:
        views = [View(view.title, path.parent / view.file, view.note) for view in example.views]
        if views := [view for view in views if is_picture(view.path)]:
            items.append((example.title, views))
    return Examples(items) if items else None
