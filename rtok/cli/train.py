"""`rtok train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config

HELP = "Train robustness tokens for a backbone."


def run(config: Config, options: Options) -> None:
    """Train."""
    from rtok.console import say
    from rtok.training import train

    done = train(config, resume=options.resume, overwrite=options.overwrite, command=options.command)
    say("tokens: " + ", ".join(map(str, done.files)))
