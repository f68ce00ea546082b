"""`rtok eval-features`, `rtok eval-class` and `rtok eval-seg`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config


@dataclass
class Evaluation:
    """A command that measures: its help, and the function that does the work."""

    HELP: str
    module: str
    function: str

    def run(self, config: Config, options: Options) -> None:
        """Measure and report."""
        from rtok.console import say
        from rtok.reporting.tables import print_results

        evaluate = getattr(import_module(self.module), self.function)
        results = evaluate(config, resume=options.resume, overwrite=options.overwrite, command=options.command)
        print_results(results)
        say(f"results and figures: {config.out}")


EVALUATIONS = {
    "eval-features": Evaluation(
        "Measure how far attacks move a backbone's features, with and without a defense.",
        "rtok.evaluation",
        "evaluate_features",
    ),
    "eval-class": Evaluation(
        "Measure the accuracy of a classifier under attack, with and without a defense.",
        "rtok.evaluation",
        "evaluate_classification",
    ),
    "eval-seg": Evaluation(
        "Measure semantic segmentation, clean and under attack, with and without a defense.",
        "rtok.evaluation",
        "evaluate_segmentation",
    ),
}
