"""The files of a run folder, checked while they are read: what comes back can be shown without a surprise."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtok.errors import UserError
from rtok.reporting.labels import ATTACK
from rtok.reporting.tables import COLUMNS

_SCALAR = (str, int, float, type(None))
# Numbers of a row that no table has a column for, and what says what a paired difference is about.
_COUNTED = ("eps", "eps_pixel", "steps", "restarts")
_DIFFERENCE = (
    *ATTACK,
    *("threat", "tokens", "head_features"),
    *(f"baseline_{key}" for key in ("victim", "threat", "tokens", "head_features")),
)
_TRAINED = ("step", "count", "seed", "invariance", "adversarial", "undefended", "seconds")


def read_results(path: Path) -> dict[str, Any]:
    """Read the results of an evaluation."""
    results = read_json(path)
    command, rows = results.get("command"), results.get("rows")
    if command not in COLUMNS:
        raise damaged(path, f"its command is {command!r}, not {', '.join(COLUMNS)}")
    if not isinstance(rows, list):
        raise damaged(path, "it has no rows")
    identities = (*ATTACK, *(column.key for column in COLUMNS[command] if column.identity))
    numbers = (*_COUNTED, *(column.key for column in COLUMNS[command] if not column.identity))
    for number, row in enumerate(rows, start=1):
        if not _has(row, str, "threat", "victim") or not _has(row, _SCALAR, *identities):
            raise damaged(path, f"row {number} does not say what it is about")
        if not _counts(row, numbers):
            raise damaged(path, f"row {number} has a value that is no number")
    for row in results.get("differences") or ():
        if (
            not _has(row, _SCALAR, *_DIFFERENCE)
            or not row.keys() >= set(_DIFFERENCE)
            or not _counts(row, numbers)
        ):
            raise damaged(path, "its differences are none")
    if results.get("sanity") and not _is_sanity(results["sanity"]):
        raise damaged(path, "its sanity checks are none")
    return results


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a training's journal; the last line of a run that was killed may be torn."""
    rows = []
    for number, line in enumerate(read_text(path, missing="").splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not all(_is_number(row.get(key)) for key in _TRAINED):
            raise damaged(path, f"line {number} is no step")
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


def read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a JSON object; `missing` takes the place of a file that is not there."""
    if missing is not None and not path.exists():
        return missing
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, "it is no JSON object")
    return content


def read_text(path: Path, missing: str | None = None) -> str:
    """Read a text file; `missing` takes the place of one that is not there."""
    if missing is not None and not path.exists():
        return missing
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from error


def damaged(path: Path, what: str) -> UserError:
    """Return the error for a file that does not hold what it should."""
    return UserError(
        f"'{path}' is damaged ({what}): run the command of its folder again, or leave the folder out."
    )


def _has(row: object, kind: Any, *keys: str) -> bool:
    """Whether this is a mapping whose values under `keys` are of a kind."""
    return isinstance(row, dict) and all(isinstance(row.get(key), kind) for key in keys)


def _counts(row: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Whether what should be numbers is, and what should be intervals."""
    intervals = row.get("ci95") or {}
    return (
        all(_is_number(row.get(key)) for key in keys)
        and isinstance(intervals, dict)
        and all(pair is None or _is_pair(pair) for pair in intervals.values())
    )


def _is_pair(found: object) -> bool:
    return isinstance(found, list) and len(found) == 2 and None not in found and all(map(_is_number, found))


def _is_number(value: object) -> bool:
    """Whether this is null or a number that can be calculated with."""
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    )


def _is_sanity(found: object) -> bool:
    if not _has(found, list, "checks") or not _has(found, int, "images"):
        return False
    assert isinstance(found, dict)
    return all(
        _has(check, str, "check", "seen")
        and _has(check, bool, "passed")
        and _has(check, _SCALAR, "tokens", "head_features")
        for check in found["checks"]
    )
