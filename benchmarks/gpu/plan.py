"""What is measured, and in which order: what matters most comes first, since the time may not suffice for all."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from rtok.config.schema import Compile, Precision

MODELS = ("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14", "dinov2_vitg14")
NAMES = {"tiny": "timm:test_vit"}  # a model for trials on a CPU
BATCHES = (8, 32)
PRECISIONS = ("bf16", "tf32", "fp32")
# What a mode is called here, and in `compile` of a config.
MODES: dict[str, Compile] = {
    "eager": False,
    "graphs": "cuda-graphs",
    "compile": "default",
    "reduce-overhead": "reduce-overhead",
    "max-autotune": "max-autotune",
}
USUAL = ("eager", "graphs", "compile")
NAIVE, STEP, PAPER = "naive", "step", "paper"
NO_TIME = "no time left"


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        part: `naive`: a training step as the original code takes it, fp32 and eager; `step`: rtok's; `paper`: the
            paper's 50 training steps of 30 PGD steps.
    """

    part: str
    model: str
    batch: int
    precision: Precision
    mode: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)

    @classmethod
    def of(cls, row: dict[str, Any]) -> Cell:
        """The cell that a row is about."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


def plan(options: argparse.Namespace) -> list[list[Cell]]:
    """The cells of each process, in order.

    What compiles takes most of the time, and comes after all else; the largest model, which may not fit a GPU's memory,
    comes after the others.
    """
    compiled = [mode for mode in options.modes if mode not in ("eager", "graphs")]
    others = [mode for mode in options.modes if mode in ("eager", "graphs")]
    last = [model for model in options.models if model == MODELS[-1]]
    first = [model for model in options.models if model not in last]
    best, *further = options.precisions

    def steps(model: str, modes: list[str], precisions: list[Precision], batches: list[int]) -> list[Cell]:
        return [Cell(STEP, model, *which) for which in product(batches, precisions, modes)]

    def quick(model: str) -> list[Cell]:
        naive = [Cell(NAIVE, model, batch, "fp32", "eager") for batch in options.batch if options.naive]
        return naive + steps(model, others, options.precisions, options.batch)

    groups = [quick(model) for model in first]
    if groups and options.paper:
        groups[0] += [Cell(PAPER, first[0], options.batch[0], best, mode) for mode in others]
    groups += [steps(model, compiled, [best], [batch]) for batch in options.batch for model in first]
    groups += [quick(model) for model in last]
    groups += [steps(model, compiled, further, options.batch) for model in first]
    groups += [steps(model, compiled, options.precisions, options.batch) for model in last]
    return [group for group in groups if group]
