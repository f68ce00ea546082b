"""The commands that run a config: `rtok train`, `rtok attack` and the evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config


@dataclass
class RunCommand:
    """A command that runs a config.

    Attributes:
        about: its help.
        module, function: what does the work; imported once there is some.
        summary: the last line it prints, from the config and the function's result.
    """

    about: str
    module: str
    function: str
    summary: Callable[[Config, Any], str]

    def run(self, config: Config, options: Options) -> None:
        """Do the work and say what came out."""
        from rtok.console import say

        work = getattr(import_module(self.module), self.function)
        plugins = {plugin.path.name: plugin.sha256 for plugin in options.plugins}
        flags = {"resume": options.resume, "overwrite": options.overwrite}
        result = work(config, **flags, command=options.command, plugins=plugins)
        say(self.summary(config, result))


def _trained(config: Config, done: Any) -> str:
    return f"{'defense' if len(done.files) == 1 else 'defenses'}: " + ", ".join(map(str, done.files))


def _crafted(config: Config, made: Any) -> str:
    return (
        f"{made.images} adversarial images in {made.out}: largest change of a pixel "
        f"{made.mean_linf_255:.2f}/255 on average, {made.max_linf_255:.2f}/255 at most"
    )


def _measured(config: Config, results: Any) -> str:
    from rtok.reporting.tables import print_results

    print_results(results)
    return f"results and figures: {config.out}"


COMMANDS = {
    "train": RunCommand("Train a defense for a backbone: robustness tokens.", "rtok.training", "train", _trained),
    "attack": RunCommand(
        "Craft adversarial images that the eval commands can reuse.",
        "rtok.evaluation",
        "make_adversarial_set",
        _crafted,
    ),
    "eval-features": RunCommand(
        "Measure how far attacks move a backbone's features, with and without a defense.",
        "rtok.evaluation",
        "evaluate_features",
        _measured,
    ),
    "eval-class": RunCommand(
        "Measure the accuracy of a classifier under attack, with and without a defense.",
        "rtok.evaluation",
        "evaluate_classification",
        _measured,
    ),
    "eval-seg": RunCommand(
        "Measure semantic segmentation, clean and under attack, with and without a defense.",
        "rtok.evaluation",
        "evaluate_segmentation",
        _measured,
    ),
}
