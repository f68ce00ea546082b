"""The figures of a published run, drawn again from its public rows: the run's own may name files and show images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rtok.reporting.report.runs import Run
from rtok.results.columns import main_column, paired_columns
from rtok.results.rows import trained_settings


def drawn(run: Run, metrics: Sequence[Mapping[str, Any]]) -> Run:
    """Draw into a public folder what its results show, or else a training's `metrics`; return the run with figures."""
    from rtok.reporting.figures.curves import training_curves
    from rtok.reporting.figures.robustness import robustness_curve
    from rtok.reporting.figures.summary import summary_figures
    from rtok.reporting.figures.tradeoff import tradeoff

    results, folder = run.results, run.path
    if results is None:
        training_curves(metrics, folder / "curves.png")
    else:
        column = main_column(run.command)
        rows = [row for row in results["rows"] if row.get(column.key) is not None]
        if rows:
            summary_figures(rows, folder, run.command)
            tradeoff(rows, trained_settings(results), folder / "tradeoff.png", column)
        if results["curve"]:
            robustness_curve(results["curve"], folder / "curve.png", paired_columns(run.command)[0])
    return replace(run, figures=sorted(folder.glob("*.png")))
