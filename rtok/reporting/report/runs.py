"""Run folders, as a report sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtok.config import strict_yaml
from rtok.errors import UserError
from rtok.reporting.report.blocks import Examples
from rtok.reporting.report.checked import read_examples, read_metrics, read_moved
from rtok.results.columns import COLUMNS
from rtok.results.files import damaged, read_json, read_results, read_text
from rtok.runs.folder import EXAMPLES

TRAIN, ATTACK = "train", "attack"
PICTURES = 4  # of those that `eval-seg` draws
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        name: what tells it from the other runs of the report.
        command: the command that made it; "" where an unfinished run does not say.
        settings: the resolved config.
        text: the same as YAML.
        record: versions, device, seconds, git; empty where the run has not written it yet.
        results: of an evaluation that has finished, else None.
        metrics: of a training, one row per step and set of tokens.
        moved: of an adversarial set, how far each image moved, in levels of 255.
        figures: the PNG files that it drew.
        examples: images that it attacked, picture by picture.
    """

    path: Path
    name: str
    command: str
    settings: Mapping[str, Any]
    text: str
    record: Mapping[str, Any]
    results: Mapping[str, Any] | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    moved: Sequence[float] = ()
    figures: Sequence[Path] = field(default_factory=list)
    examples: Examples | None = None

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
    """Read run folders in their order; one that is listed twice is read once.

    Raises:
        UserError: a folder does not hold a run, or a file in it is damaged.
    """
    unique = list({path.resolve(): path for path in reversed([Path(path) for path in paths])}.values())[::-1]
    return [_read(path, name) for path, name in zip(unique, _names(unique), strict=True)]


def _read(path: Path, name: str) -> Run:
    is_set = (path / "attack.json").is_file()
    if not is_set and not (path / "config.yaml").is_file():
        raise UserError(_no_run(path))
    record = read_json(path / ("attack.json" if is_set else "run.json"), missing="{}")
    text, settings = "", record.get("config", {})
    if is_set:
        text = strict_yaml.dump(settings)
    else:
        text = read_text(path / "config.yaml")
        settings = strict_yaml.parse(text, str(path / "config.yaml"))[0]
    if not isinstance(settings, Mapping):
        raise damaged(path / "config.yaml", "it holds no settings")
    results = read_results(path / "results.json") if (path / "results.json").is_file() else None
    metrics = read_metrics(path / "metrics.jsonl")
    command = _command(record)
    if is_set or metrics or results:
        command = ATTACK if is_set else TRAIN if metrics else str(results and results["command"])
    moved = read_moved(path / "manifest.csv") if is_set else []
    figures = sorted(path.glob("*.png")) + sorted(path.glob("pictures/*.png"))[:PICTURES]
    drawn = [figure for figure in figures if _is_png(figure)]
    examples = read_examples(path / EXAMPLES, _is_png)
    return Run(path, name, command, settings, text, record, results, metrics, moved, drawn, examples)


def _no_run(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder '{path}': name the folders of runs, such as results/dinov2_vits14."
    inner = sorted(file.parent for file in [*path.glob("*/config.yaml"), *path.glob("*/attack.json")])
    hint = f", but it holds runs: name those, such as {inner[0]}" if inner else ""
    return f"'{path}' is not the folder of a run (it has neither config.yaml nor attack.json){hint}."


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the paths without the folders that all of them share."""
    if len(paths) == 1:
        return [paths[0].resolve().name]
    shared = os.path.commonpath([path.resolve().parent for path in paths])
    return [os.path.relpath(path.resolve(), shared) for path in paths]


def _command(record: Mapping[str, Any]) -> str:
    """Return the command in a run's record, "" where it names none that is known."""
    words = record.get("command")
    known = (TRAIN, ATTACK, *COLUMNS)
    return next((word for word in words if word in known), "") if isinstance(words, list) else ""


def _is_png(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_PNG)) == _PNG
    return False


def model(run: Run) -> str:
    """Return the model of a run and its input size, in words."""
    name, size = run.setting("model", "name"), run.setting("model", "image_size")
    sides = " x ".join(map(str, size)) if isinstance(size, list) else size
    return f"{name or 'a model'} at {sides or 'some'} px"


def distinct(values: Iterable[str]) -> list[str]:
    """Return values without repetition, in order of first appearance."""
    return list(dict.fromkeys(values))
