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
    leaderboard: Annotated[
        bool,
        typer.Option("--leaderboard", help="Rank the defenses of runs that followed one protocol, and nothing else."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the report in the folder.")] = False,
) -> None:
    """Write one report about several runs, as Markdown and as a self-contained HTML page."""
    from rtok.reporting.report import write_leaderboard, write_report
    from rtok.results.words import counted

    write, what, noun = (
        (write_leaderboard, "leaderboard", "defense") if leaderboard else (write_report, "report", "run")
    )
    written = write(runs, out, overwrite=overwrite)
    typer.echo(f"{what} of {counted(written.count, noun)}: {written.html}, {written.markdown}")
