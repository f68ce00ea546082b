"""`rtok attack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.cli.command import Options
    from rtok.config import Config

HELP = "Craft adversarial images that the eval commands can reuse."


def run(config: Config, options: Options) -> None:
    """Craft and write."""
    from rtok.console import say
    from rtok.evaluation import make_adversarial_set

    made = make_adversarial_set(config, resume=options.resume, overwrite=options.overwrite, command=options.command)
    say(
        f"{made.images} adversarial images in {made.out}: largest change of a pixel "
        f"{made.mean_linf_255:.2f}/255 on average, {made.max_linf_255:.2f}/255 at most"
    )
