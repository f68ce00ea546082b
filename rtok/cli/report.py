"""`rtok report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtok.cli.paths import user_path


def report(
    runs: Annotated[
        list[Path], typer.Argument(parser=user_path, metavar="RUN...", help="The run folders of any commands.")
    ],
    out: Annotated[Path, typer.Option(parser=user_path, metavar="DIR", help="The report's folder.")] = Path(
        "results/report"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the report in the folder.")] = False,
) -> None:
    """Write one report about several runs, as Markdown and as a self-contained HTML page."""
    from rtok.reporting.report import write_report
    from rtok.results.words import counted

    written = write_report(runs, out, overwrite=overwrite)
    typer.echo(f"report of {counted(written.runs, 'run')}: {written.html}, {written.markdown}")
