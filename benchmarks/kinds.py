"""Time the attack phase and the whole training step of every kind of defense: `python -m benchmarks.kinds`.

All kinds are timed in turns, on one batch of random images, attacked through the defense as it is trained. The peak of
memory is measured on a GPU, and computed from the tensors' shapes on a CPU (`benchmarks.memory`), with Adam's moments.
It prints a Markdown table and writes JSON.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import in_turns, peak_memory, written
from benchmarks.memory import peaks
from benchmarks.ours import batch_of, load_random, make_config
from rtok.compute import Compute
from rtok.config.registry import DEFENSES
from rtok.models.backbone import Backbone
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer

HEADINGS = ("kind", "parameters", "attack, s", "/ tokens", "training step, s", "/ tokens", "peak memory, GiB")


class Work:
    """The attack and the training step of one kind."""

    def __init__(self, kind: str, backbone: Backbone, compute: Compute, options: argparse.Namespace) -> None:
        train = {"batch_size": options.batch, "threat": "adaptive", "lr": 1e-4}
        self.section = {"kind": kind}
        config = make_config(
            options.model, options.image_size, options.batch, options.steps, defense=self.section, train=train
        )
        self.trainee = make_trainees(config, backbone, compute.device)[0]
        self.trainer = Trainer(config, compute, backbone, [self.trainee])
        images = torch.rand(options.batch, 3, options.image_size, options.image_size)
        self.batch = batch_of(images.to(compute.device))
        self.attacked = self.trainer.attacker.on_plain(1, self.batch)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(values.numel() for values in self.trainee.defense.parameters().values())

    def attack(self) -> None:
        """The attack through the defense, with what is computed of it first, such as merged weights."""
        self.trainer.attacker.through(self.trainee.defense, self.attacked)

    def step(self) -> None:
        """The attack and the update."""
        self.trainer.step(1, self.batch)


def measure(options: argparse.Namespace, compute: Compute) -> list[dict[str, Any]]:
    """One row per kind: seconds of both, and the bytes at the peak of a step."""
    backbone = compute.prepare(load_random(options.model, options.image_size))
    works = {kind: Work(kind, backbone, compute, options) for kind in options.kinds}
    calls: dict[str, Callable[[], None]] = {}
    for kind, work in works.items():
        calls |= {f"{kind} attack": work.attack, f"{kind} step": work.step}
    seconds = in_turns(calls, options.repeats, compute.device)
    rows = []
    for kind, work in works.items():
        row = {"kind": kind, "parameters": work.parameters}
        row |= {f"{part}_seconds": seconds[f"{kind} {part}"] for part in ("attack", "step")}
        rows.append({**row, "peak_bytes": peak_memory(work.step, compute.device) or computed_peak(work, options)})
    return rows


def computed_peak(work: Work, options: argparse.Namespace) -> int:
    """Bytes at the peak of a step in fp32, from shapes."""
    moments = 2 * 4 * work.parameters
    return moments + max(peaks(options.model, options.image_size, options.batch, torch.float32, work.section)[1:])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, with times as multiples of those of tokens where they were timed too."""
    medians = {row["kind"]: [statistics.median(row[f"{part}_seconds"]) for part in ("attack", "step")] for row in rows}
    tokens = medians.get("tokens")
    lines = [" | ".join(HEADINGS), " | ".join([":---", *["---:"] * (len(HEADINGS) - 1)])]
    for row in rows:
        cells = [f"`{row['kind']}`", f"{row['parameters']:,}"]
        for part, median in enumerate(medians[row["kind"]]):
            cells += [f"{median:.2f}", f"{median / tokens[part]:.2f}" if tokens else ""]
        lines.append(" | ".join([*cells, f"{row['peak_bytes'] / 2**30:.2f}"]))
    return "\n".join(f"| {line} |" for line in lines)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kinds", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dinov2_vits14")
    parser.add_argument("--image-size", type=int, default=98)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="PGD steps")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=list(DEFENSES), default=list(DEFENSES))
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    parser.add_argument("--out", type=Path, default=None, help="default benchmarks/results/kinds-DEVICE-DATE.json")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    compute = Compute.start(precision=options.precision)
    rows = measure(options, compute)
    out = written(rows, options, compute, "kinds-")
    print(f"{table(rows)}\nwritten to {out}")


if __name__ == "__main__":
    main()
