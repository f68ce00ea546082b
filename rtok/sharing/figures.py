"""The figures of a published run, drawn again from its public rows: the run's own may name files and show images."""

from __future__ import annotations

from pathlib import Path

from rtok.reporting.report.runs import Run, read_runs
from rtok.results.columns import main_column, paired_columns
from rtok.results.rows import trained_settings


def draw(run: Run, folder: Path) -> None:
    """Draw into the folder what its results, or else the run's training, show."""
    from rtok.reporting.figures.curves import training_curves
    from rtok.reporting.figures.robustness import robustness_curve
    from rtok.reporting.figures.summary import summary_figures
    from rtok.reporting.figures.tradeoff import tradeoff

    if run.results is None:
        training_curves(run.metrics, folder / "curves.png")
        return
    results, command = read_runs([folder])[0].results, run.command
    assert results is not None
    column = main_column(command)
    rows = [row for row in results["rows"] if row.get(column.key) is not None]
    if rows:
        summary_figures(rows, folder, command)
        tradeoff(rows, trained_settings(results), folder / "tradeoff.png", column)
    if results["curve"]:
        robustness_curve(results["curve"], folder / "curve.png", paired_columns(command)[0])
