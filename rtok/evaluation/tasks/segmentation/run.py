"""`rtok eval-seg`: what tokens do to semantic segmentation, clean and under attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import Unpack

from rtok.config.rules import checked
from rtok.data.framing import Framing
from rtok.evaluation.run import run_evaluation
from rtok.heads.segmentation import engine
from rtok.reporting.results import Results
from rtok.runs.run import RunOptions
from rtok.setup import Given, Setup

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.evaluation.task import Task


def evaluate_segmentation(config: Config, given: Given | None = None, **options: Unpack[RunOptions]) -> Results:
    """Measure the mIoU of the plain, random and robust victims, and write the run folder `config.out`.

    Args:
        given: what is in memory already, in place of what the config names.

    Raises:
        UserError: the input is wrong, or mmsegmentation is not installed; nothing has been written then.
    """
    checked(config, "eval-seg")
    engine.start()
    return run_evaluation(config, open_task, open_framing(config), given, **options)


def open_framing(config: Config) -> Framing:
    """Return how the config has pictures resized."""
    sizes = config.segmentation
    return Framing(sizes.mode, sizes.short_side, sizes.window, config.seed)


def open_task(setup: Setup) -> Task:
    """Start mmsegmentation and check every mask and the heads that there are.

    Raises:
        UserError: data without masks, masks that cannot be used, heads that do not fit.
    """
    engine.start()
    from rtok.evaluation.tasks.segmentation.task import SegmentationTask

    return SegmentationTask.open(setup)
