"""`rtok eval-seg`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config

HELP = "Measure what tokens do to semantic segmentation, clean and under attack."


def run(config: Config, options: Options) -> None:
    """Measure and report."""
    from rtok.console import say
    from rtok.evaluation.segmentation import evaluate_segmentation
    from rtok.reporting.tables import print_results

    results = evaluate_segmentation(
        config, resume=options.resume, overwrite=options.overwrite, command=options.command
    )
    print_results(results)
    say(f"results and figures: {config.out}")
