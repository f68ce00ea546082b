"""`rtok eval-features`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config

HELP = "Measure how far attacks move a backbone's features, with and without tokens."


def run(config: Config, options: Options) -> None:
    """Measure and report."""
    from rtok.console import say
    from rtok.evaluation import evaluate_features
    from rtok.reporting.tables import print_results

    results = evaluate_features(
        config, resume=options.resume, overwrite=options.overwrite, command=options.command
    )
    print_results(results)
    say(f"results and figures: {config.out}")
