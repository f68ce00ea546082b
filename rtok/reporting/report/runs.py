"""Run folders, read for a report: every file is checked before a word of it is shown."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtok.config import strict_yaml
from rtok.errors import UserError
from rtok.reporting.tables import COLUMNS

TRAIN, ATTACK = "train", "attack"
PICTURES = 4  # of those that `eval-seg` draws
_PNG = b"\x89PNG\r\n\x1a\n"
_RADIUS = ("eps", "eps_pixel")
_TRAINED = ("step", "invariance", "adversarial", "undefended", "seconds")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        name: what tells it from the other runs of the report.
        command: the command that made it; "" where an unfinished run does not say.
        settings: the resolved config; `text` is the same as it stands in the folder.
        record: versions, device, seconds, git; empty where the run has not got to writing it.
        results: of an evaluation that has finished, else None.
        metrics: a row a step and token set, of a training.
        manifest: a row an image, of an adversarial set.
        figures: the PNG files that it drew.
    """

    path: Path
    name: str
    command: str
    settings: Mapping[str, Any]
    text: str
    record: Mapping[str, Any]
    results: Mapping[str, Any] | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    manifest: Sequence[Mapping[str, str]] = ()
    figures: Sequence[Path] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether it ran to its end."""
        return bool(self.record.get("finished"))

    def setting(self, *keys: str) -> Any:
        """Return a value of the config, None where it has none."""
        value: Any = self.settings
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders in their order; one that is named twice is read once.

    Raises:
        UserError: a folder is no run, or a file in it is damaged.
    """
    unique = list({path.resolve(): path for path in reversed([Path(path) for path in paths])}.values())[::-1]
    return [_read(path, name) for path, name in zip(unique, _names(unique), strict=True)]


def _read(path: Path, name: str) -> Run:
    is_set = (path / "attack.json").is_file()
    if not is_set and not (path / "config.yaml").is_file():
        raise UserError(_no_run(path))
    record = _json(path / ("attack.json" if is_set else "run.json"), missing={})
    text, settings = "", record.get("config", {})
    if is_set:
        text = strict_yaml.dump(settings)
    else:
        text = _text(path / "config.yaml")
        settings = strict_yaml.parse(text, str(path / "config.yaml"))[0]
    if not isinstance(settings, Mapping):
        raise UserError(_damaged(path / "config.yaml", "it holds no settings"))
    results = _results(path / "results.json") if (path / "results.json").is_file() else None
    metrics = _metrics(path / "metrics.jsonl")
    command = _command(record)
    if is_set or metrics or results:
        command = ATTACK if is_set else TRAIN if metrics else str(results and results["command"])
    manifest = list(csv.DictReader(io.StringIO(_text(path / "manifest.csv", missing="")))) if is_set else []
    figures = sorted(path.glob("*.png")) + sorted(path.glob("pictures/*.png"))[:PICTURES]
    drawn = [figure for figure in figures if _is_png(figure)]
    return Run(path, name, command, settings, text, record, results, metrics, manifest, drawn)


def _no_run(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder '{path}': name the folders of runs, such as results/dinov2_vits14."
    inner = sorted(file.parent for file in [*path.glob("*/config.yaml"), *path.glob("*/attack.json")])
    hint = f": it holds runs, name those, such as {inner[0]}" if inner else ""
    return f"'{path}' is no run's folder (neither config.yaml nor attack.json is in it){hint}."


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the paths without the folders that all of them share."""
    if len(paths) == 1:
        return [paths[0].resolve().name]
    shared = os.path.commonpath([path.resolve().parent for path in paths])
    return [os.path.relpath(path.resolve(), shared) for path in paths]


def _command(record: Mapping[str, Any]) -> str:
    """Return which command a run's record says, "" where it says none that is known."""
    words = record.get("command")
    known = (TRAIN, ATTACK, *COLUMNS)
    return next((word for word in words if word in known), "") if isinstance(words, list) else ""


def _results(path: Path) -> dict[str, Any]:
    results = _json(path)
    command, rows = results.get("command"), results.get("rows")
    if command not in COLUMNS:
        raise UserError(_damaged(path, f"its command is {command!r}, not {', '.join(COLUMNS)}"))
    if not isinstance(rows, list):
        raise UserError(_damaged(path, "it has no rows"))
    numbers = (*_RADIUS, *(column.key for column in COLUMNS[command] if not column.identity))
    for number, row in enumerate(rows, start=1):
        if not _says(row, "threat", "victim"):
            raise UserError(_damaged(path, f"row {number} names no threat and victim"))
        if not all(_number(row.get(key)) for key in numbers) or not _intervals(row.get("ci95")):
            raise UserError(_damaged(path, f"row {number} has a value that is no number"))
    differences, checks = (
        results.get("differences") or [],
        (results.get("sanity") or {"checks": []})["checks"],
    )
    if not all(_says(row, "threat", "attack") and _intervals(row.get("ci95")) for row in differences):
        raise UserError(_damaged(path, "its differences are none"))
    if not all(_says(check, "check", "seen") for check in checks):
        raise UserError(_damaged(path, "its sanity checks are none"))
    return results


def _says(row: object, *keys: str) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), str) for key in keys)


def _intervals(found: object) -> bool:
    """Whether this is null, or intervals by name: null or two numbers each."""
    pairs = found.values() if isinstance(found, dict) else [found]
    return all(
        pair is None or (isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair)))
        for pair in pairs
    )


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Read a training's journal; the last line of a run that was killed may be torn."""
    lines = _text(path, missing="").splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            sound = isinstance(row, dict) and all(_number(row.get(key)) for key in _TRAINED)
        except ValueError:
            sound = False
        if not sound:
            raise UserError(_damaged(path, f"line {number} is no step"))
        rows.append(row)
    return rows


def _number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.exists():
        return missing
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(_damaged(path, str(error))) from error
    if not isinstance(content, dict):
        raise UserError(_damaged(path, "it is no JSON object"))
    return content


def _text(path: Path, missing: str | None = None) -> str:
    if missing is not None and not path.exists():
        return missing
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from error


def _damaged(path: Path, what: str) -> str:
    return f"'{path}' is damaged ({what}): run the command of its folder again, or leave the folder out."


def _is_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PNG)) == _PNG


def model(run: Run) -> str:
    """Return the model of a run and its input size, in words."""
    name, size = run.setting("model", "name"), run.setting("model", "image_size")
    sides = " x ".join(map(str, size)) if isinstance(size, list) else size
    return f"{name or 'a model'} at {sides or 'some'} px"


def distinct(values: Iterable[str]) -> list[str]:
    """Return values without repetition, in order of first appearance."""
    return list(dict.fromkeys(values))
