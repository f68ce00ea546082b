"""Training curves from the lines of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from rtok.reporting.figures.canvas import BLUE, GREEN, INK, SEQUENCE, VERMILION, new_figure, save, tidy
from rtok.results.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {
    "invariance": "clean image, defended",
    "adversarial": "adversarial image, defended",
    "undefended": "adversarial image, plain",
}
COLORS = {"invariance": GREEN, "adversarial": BLUE, "undefended": VERMILION}
# What validation measures, in the color of the training's own term.
VALIDATED = {
    "fidelity": ("held-out clean image", "invariance"),
    "cosine_to_plain": ("held-out, white-box", "adversarial"),
}
# Steps from which on a running mean is drawn over the single values, which jump with the batch.
SMOOTH_FROM = 40


def training_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the cosine to the plain clean features against the step, for every (count, seed) of the run.

    One training gets one panel with the three terms; several get one panel per term, one color per count.

    Args:
        metrics: rows of `metrics.jsonl`: `step`, the three terms and, where a run trains several, `count` and `seed`;
            steps that were validated also have `cosine_to_plain` and `fidelity`, drawn as diamonds.
        path: the PNG to write.
    """
    series: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in metrics:
        series.setdefault((row.get("count") or 0, row.get("seed", 0)), []).append(row)
    if len(series) == 1:
        _one(next(iter(series.values())), path)
    else:
        _several(series, path)


def _one(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    for name, label in LABELS.items():
        _line(axes, rows, name, COLORS[name], label)
    for name, (label, term) in VALIDATED.items():
        _points(axes, rows, name, COLORS[term], label)
    tidy(axes, xlabel=_steps([rows]), ylabel="cosine to the plain clean features")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9, handlelength=1.2)
    save(figure, path)


def _several(series: Mapping[tuple[int, int], Sequence[Mapping[str, Any]]], path: Path) -> None:
    counts = sorted({count for count, _ in series})
    shades = matplotlib.colormaps[SEQUENCE](np.linspace(0.0, 0.85, len(counts)))
    colors = dict(zip(counts, shades, strict=True))
    figure = new_figure(9.6, 4.0)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("adversarial", "invariance"), strict=True):
        labeled = set()
        for (count, _), rows in sorted(series.items()):
            label = counted(count, "token") if count and count not in labeled else None
            labeled.add(count)
            _line(axes, rows, name, colors[count], label)
            for validated, (_, term) in VALIDATED.items():
                if term == name:
                    _points(axes, rows, validated, colors[count], None)
        axes.set_title(LABELS[name], fontsize=10, color=INK)
        tidy(axes, xlabel=_steps(series.values()))
    _line(panels[0], _mean_over(series.values(), "undefended"), "undefended", VERMILION, LABELS["undefended"])
    panels[0].set_ylabel("cosine to the plain clean features", color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False, fontsize=9)
    save(figure, path)


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, color: Any, label: str | None) -> None:
    """Draw one quantity; with many steps faint single values below their running mean."""
    kept = [row for row in rows if row.get(name) is not None]
    steps, values = [row["step"] for row in kept], np.array([row[name] for row in kept], dtype=float)
    window = _window(len(values))
    if window > 1:
        axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.3)
        kernel, some = np.ones(window), np.ones(len(values))  # at the ends, the mean over the values that exist
        values = np.convolve(values, kernel, "same") / np.convolve(some, kernel, "same")
    marker = "o" if len(values) < 3 else None
    axes.plot(steps, values, color=color, linewidth=2.0, marker=marker, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _points(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, color: Any, label: str | None) -> None:
    """Draw what only some steps have as joined points; nothing where none has it."""
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if found:
        axes.plot(*zip(*found, strict=True), color=color, linestyle="--", linewidth=1.0, marker="D", label=label)


def _window(steps: int) -> int:
    """Return the odd width of the running mean: about a twentieth of the run, or 1 (none) for a short run."""
    return 1 if steps < SMOOTH_FROM else steps // 20 // 2 * 2 + 3


def _mean_over(series: Any, name: str) -> list[dict[str, Any]]:
    """Return one row per step with the mean of `name`: it is the same for all counts unless training adapts."""
    values: dict[int, list[float]] = {}
    for rows in series:
        for row in rows:
            if row.get(name) is not None:
                values.setdefault(row["step"], []).append(row[name])
    return [{"step": step, name: float(np.mean(values[step]))} for step in sorted(values)]


def _steps(series: Any) -> str:
    window = _window(max(len(rows) for rows in series))
    return "step" if window == 1 else f"step (bold: mean over {window} steps)"
