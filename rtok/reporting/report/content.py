"""What a report says of its runs, in order: overview, evaluations, trainings, adversarial sets, settings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rtok.console import clock
from rtok.reporting.report.blocks import Bars, Block, Curves, Examples, Figure, Heading, Listing, Paragraph, Table
from rtok.reporting.report.charts import robustness_curves, summary_bars, tradeoff_curves, training_curves
from rtok.reporting.report.evaluations import evaluations, overview
from rtok.reporting.report.runs import ATTACK, TRAIN, Run, distinct, model
from rtok.reporting.tables import ABSENT
from rtok.results.columns import main_column, paired_columns
from rtok.results.rows import trained_settings
from rtok.results.words import counted, detailed

LAST = 10  # steps at the end of a training whose means are shown
CAPTIONS = {  # in the order in which they are shown
    "summary": "Each victim under each threat, with 95 % intervals",
    "curve": "Robustness of each victim at each radius",
    "tradeoff": "What each defense keeps under attack against what it costs on clean images",
    "curves": "Cosine to the plain clean features during training",
    "activations": "The largest activation after each block",
    "examples": "Clean images, adversarial images, and their difference",
    "features": "How far the features of each patch moved",
}


def content(runs: Sequence[Run], version: str, drawn: Path) -> list[Block]:
    """Return the whole report; `version` is that of the rtok that writes it, `drawn` a folder for its own figures."""
    trained = [run for run in runs if run.command == TRAIN]
    sets = [run for run in runs if run.command == ATTACK]
    parts = [_start(runs, version), overview(runs), _evaluations(runs, drawn)]
    parts += [_trainings(trained)] if trained else []
    parts += [_sets(sets)] if sets else []
    return [block for part in [*parts, _settings(runs)] for block in part]


def _start(runs: Sequence[Run], version: str) -> Iterator[Block]:
    yield Heading(1, "rtok report")
    yield Paragraph(f"{counted(len(runs), 'run')}, collected by rtok {version}.")
    rows = []
    for run in runs:
        seconds = run.record.get("seconds")
        state = "finished" if run.finished else "UNFINISHED"
        time = clock(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else ABSENT
        rows.append([run.name, run.command or ABSENT, model(run), _data(run), state, time])
    yield Table(("run", "command", "model", "data", "state", "time"), rows, frozenset({5}))


def _evaluations(runs: Sequence[Run], drawn: Path) -> Iterator[Block]:
    measured = [run for run in runs if run.results is not None]
    for command in distinct(run.command for run in measured):
        for name in distinct(model(run) for run in measured if run.command == command):
            members = [run for run in measured if run.command == command and model(run) == name]
            yield Heading(2, f"{command}: {name}")
            yield from evaluations(members)
            yield from _tradeoff(members, drawn)
            yield from _figures(members)


def _tradeoff(runs: Sequence[Run], drawn: Path) -> Iterator[Block]:
    """The trade-off over several runs; a single run has drawn its own."""
    from rtok.reporting.figures.tradeoff import tradeoff

    if len(runs) == 1:
        return
    rows = [row for run in runs if run.results for row in run.results["rows"]]
    trained = {file: settings for run in runs for file, settings in trained_settings(run.results).items()}
    command = runs[0].command
    path = drawn / f"{command}-{len(list(drawn.iterdir()))}" / "tradeoff.png"
    path.parent.mkdir()
    column = main_column(command)
    if tradeoff(rows, trained, path, column):
        yield Figure(path, f"All runs: {CAPTIONS['tradeoff']}", tradeoff_curves(rows, trained, column))


def _trainings(runs: Sequence[Run]) -> Iterator[Block]:
    yield Heading(2, "Training")
    yield Paragraph(
        f"Cosines are means over the last {LAST} steps, each to the plain clean features: of the clean image with "
        "the defense (invariance), of the adversarial image with it (adversarial) and without it (undefended)."
    )
    columns = ("invariance", "adversarial", "undefended")
    head = ("run", "defense", "seed", "threat", "steps", *columns, "seconds per step")
    rows = [row for run in runs for row in _trained(run, columns)]
    yield Table(head, rows, frozenset({2, 4, 5, 6, 7, 8}))
    yield from _figures(runs)


def _trained(run: Run, columns: Sequence[str]) -> Iterator[list[str]]:
    """One line per defense."""
    sets: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for row in run.metrics:
        sets.setdefault((row.get("count"), row.get("seed")), []).append(row)
    key = "defense" if run.setting("defense") else "tokens"  # the key that version 0.1 had
    kind, form, seeds = str(run.setting(key, "kind") or "tokens"), run.setting(key, "count"), run.setting(key, "seeds")
    for (count, seed), rows in sets.items():
        count, seed = (form if count is None else count), (seeds if seed is None else seed)
        steps = f"{rows[-1].get('step')} of {run.setting('train', 'steps')}"
        who = detailed(kind, [] if count is None else [_plain(count)])
        line = [run.name, who, _plain(seed), _plain(run.setting("train", "threat")), steps]
        means = [_mean([row.get(name) for row in rows[-LAST:]]) for name in columns]
        yield [*line, *means, _mean([row.get("seconds") for row in rows], digits=2)]


def _sets(runs: Sequence[Run]) -> Iterator[Block]:
    yield Heading(2, "Adversarial sets")
    rows = []
    for run in runs:
        about = [_plain(run.record.get(key)) for key in ("name", "objective", "surrogate")]
        rows.append(
            [run.name, *about, str(len(run.moved)), _mean(run.moved, 1), _mean([max(run.moved, default=None)], 1)]
        )
    head = ("run", "attack", "objective", "surrogate", "images", "mean Linf (of 255)", "largest Linf (of 255)")
    yield Table(head, rows, frozenset({4, 5, 6}))
    yield from _figures(runs)


def _settings(runs: Sequence[Run]) -> Iterator[Block]:
    yield Heading(2, "Settings and versions")
    packages = distinct(package for run in runs for package in _mapping(run, "versions"))
    rows = []
    for run in runs:
        device, git, versions = (_mapping(run, key) for key in ("device", "git", "versions"))
        commit = str(git.get("commit", ABSENT))[:10] + (" and changes" if git.get("dirty") else "")
        where = ", ".join(f"{device[key]}" for key in ("type", "name", "precision") if key in device)
        rows.append([run.name, *(_plain(versions.get(name)) for name in packages), commit, where or ABSENT])
    yield Table(("run", *packages, "commit", "device"), rows)
    for run in runs:
        yield Listing(f"Settings of {run.name}", run.text)


def _figures(runs: Sequence[Run]) -> Iterator[Block]:
    order = {name: number for number, name in enumerate(CAPTIONS)}
    for run in runs:
        for path in sorted(run.figures, key=lambda path: order.get(path.stem, len(order))):
            caption = CAPTIONS.get(path.stem, path.stem)
            yield Figure(path, caption if len(runs) == 1 else f"{run.name}: {caption}", _live(run, path.stem))


def _live(run: Run, figure: str) -> Bars | Curves | Examples | None:
    """What a page shows in place of a run's figure; None for the figure itself."""
    if figure in ("examples", "features"):
        return run.examples
    if figure == "curves":
        return training_curves(run.metrics)
    if run.results is None:
        return None
    rows, column = run.results["rows"], main_column(run.command)
    if figure == "summary":
        return summary_bars(rows, column)
    if figure == "tradeoff":
        return tradeoff_curves(rows, trained_settings(run.results), column)
    return robustness_curves(run.results["curve"], paired_columns(run.command)[0]) if figure == "curve" else None


def _data(run: Run) -> str:
    words = [run.setting("data", key) for key in ("name", "split", "root")]
    return ", ".join(str(word) for word in words if word is not None) or ABSENT


def _mapping(run: Run, key: str) -> Mapping[str, Any]:
    found = run.record.get(key)
    return found if isinstance(found, Mapping) else {}


def _plain(value: Any) -> str:
    """Return a value of a file as text, an en dash for null, a list without its brackets."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return ABSENT if value is None else str(value)


def _mean(values: Sequence[float | None], digits: int = 3) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.{digits}f}" if known else ABSENT
