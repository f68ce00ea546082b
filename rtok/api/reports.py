"""`rtok.report`: one page about several runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtok.reporting.report import write_report
from rtok.reporting.report.write import Report
from rtok.reporting.results import Results

if TYPE_CHECKING:
    from rtok.training.loop import TrainResult


def report(
    *runs: str | Path | Results | TrainResult, out: str | Path = "results/report", overwrite: bool = False
) -> Report:
    """Write one report about several runs, as Markdown and as a self-contained HTML page.

    Args:
        runs: run folders, or what `rtok.evaluate` and `rtok.train` returned.

    Raises:
        UserError: a folder does not hold a run, or `out` holds something already; nothing has been written then.
    """
    folders = [Path(run) if isinstance(run, (str, Path)) else run.out for run in runs]
    return write_report(folders, Path(out), overwrite=overwrite)
