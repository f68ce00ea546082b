"""`rtok eval-class`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config

HELP = "Measure a classifier on the backbone under attack, with and without tokens."


def run(config: Config, options: Options) -> None:
    """Measure and report."""
    from rtok.console import say
    from rtok.evaluation import evaluate_classification
    from rtok.reporting.tables import print_results

    results = evaluate_classification(
        config, resume=options.resume, overwrite=options.overwrite, command=options.command
    )
    print_results(results)
    say(f"results and figures: {config.out}")
