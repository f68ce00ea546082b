"""`rtok report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, of any command.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write the report to.")] = Path(
        "results/report"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Write a report on one or more runs: one Markdown page and one self-contained HTML page."""
    from rtok.reporting.labels import counted
    from rtok.reporting.report import write_report

    written = write_report(runs, out, overwrite=overwrite)
    typer.echo(f"report of {counted(written.runs, 'run')}: {written.html}, {written.markdown}")
