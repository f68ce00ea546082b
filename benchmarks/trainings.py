"""The tables of docs/scaling.md on ways to train, from the runs of `scripts/fewer_steps.sh` and `trained_precision.sh`.

    python -m benchmarks.trainings results/fewer-steps --compare pgd-30

Every way has been trained with several seeds, `WAY-seed-N`, and all are compared on the same images. A training step of
each is timed, in turns and in seconds of the processor, on random images at the full radius. Prints a Markdown table
and writes JSON.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import in_turns, written
from benchmarks.ours import batch_of
from rtok.compute import Compute
from rtok.config.load import load_config
from rtok.config.schema import Config
from rtok.models.backbone import Backbone
from rtok.plugins import load_plugin
from rtok.setup import open_backbone
from rtok.statistics import Floats, difference_interval, mean_interval
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer

PLUGIN = Path(__file__).with_name("cheap_attacks.py")
COSINES = (-1.0, 1.0)
Ways = dict[str, dict[str, dict[str, tuple[float, float]]]]  # way, seed, image: fidelity and cosine under the attack
HEADINGS = ("training", "step, s", "attack alone, s", "fidelity")


class Work:
    """The attack and the training step of one way."""

    def __init__(self, config: Config, backbone: Backbone, compute: Compute) -> None:
        images = torch.rand(config.train.batch_size, 3, *backbone.image_size)
        self.batch = batch_of(images.to(compute.device))
        self.trainees = make_trainees(config, backbone, compute.device)
        self.trainer = Trainer(config, compute, backbone, self.trainees)
        self.last = config.train.total_steps  # where the radius is whole

    def attack(self) -> None:
        """The attack, with the clean features that it needs."""
        attacker = self.trainer.attacker
        attacker.through(self.trainees[0].defense, attacker.on_plain(self.last, self.batch))

    def step(self) -> None:
        """The attack and the update."""
        self.trainer.step(self.last, self.batch)


def timed(configs: dict[str, Config], turns: int) -> tuple[dict[str, dict[str, list[float]]], Compute]:
    """Seconds of the processor of both parts, by way, and what computed them."""
    computes = {config.precision: Compute.start(precision=config.precision) for config in configs.values()}
    model = next(iter(configs.values())).model
    backbones = {precision: open_backbone(model, compute) for precision, compute in computes.items()}
    works = {
        way: Work(config, backbones[config.precision], computes[config.precision]) for way, config in configs.items()
    }
    calls = {f"{way} {part}": getattr(work, part) for way, work in works.items() for part in ("attack", "step")}
    compute = next(iter(computes.values()))
    seconds = in_turns(calls, turns, compute.device, clock=time.process_time)
    return {way: {part: seconds[f"{way} {part}"] for part in ("attack", "step")} for way in works}, compute


def measured(folder: Path, threat: str) -> tuple[list[str], Ways]:
    """The photos that the images come from, and what a threat's attack left of every way and seed."""
    found: Ways = defaultdict(dict)
    groups: dict[str, str] = {}
    for file in sorted(folder.glob("eval*/per_image.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if (row["victim"], row["threat"]) == ("robust", threat):
                    way, _, seed = Path(row["defense"]).parent.name.rpartition("-seed-")
                    groups[row["image"]] = row["group"]
                    values = float(row["fidelity"]), float(row["cosine_to_plain"])
                    found[way].setdefault(seed, {})[row["image"]] = values
    return [groups[image] for image in sorted(groups)], dict(found)


def side_by_side(ways: Ways, way: str, seeds: list[str]) -> Floats:
    """Fidelity and cosine of a way, (2, images, seeds)."""
    images = [[values for _, values in sorted(ways[way][seed].items())] for seed in seeds]
    return np.array(images).transpose(2, 1, 0)


def compared(
    groups: list[str], ways: Ways, seconds: dict[str, dict[str, list[float]]], with_: list[str]
) -> list[dict[str, Any]]:
    """One row per way; differences are of the seeds that both ways have, and intervals over photos and seeds."""
    rows = []
    for way, by_seed in ways.items():
        fidelity, left = side_by_side(ways, way, sorted(by_seed))
        row: dict[str, Any] = {"way": way, "seeds": sorted(by_seed), "images": len(groups)}
        row |= {f"{part}_seconds": values for part, values in seconds[way].items()}
        row |= {"fidelity": fidelity.mean(), "left": left.mean()}
        row["ci95"] = mean_interval(left, groups, COSINES)
        row["seed_means"] = left.mean(0).tolist()
        for other in with_:
            if other != way:
                both = sorted(by_seed.keys() & ways[other].keys())
                one, base = (side_by_side(ways, name, both)[1] for name in (way, other))
                row[f"minus {other}"] = one.mean() - base.mean()
                row[f"minus {other} ci95"] = difference_interval(one, base, groups, COSINES)
        rows.append(row)
    return sorted(rows, key=lambda row: statistics.median(row["step_seconds"]))


def table(rows: list[dict[str, Any]], with_: list[str], threat: str) -> str:
    """The rows in Markdown."""
    headings = [*HEADINGS, f"{threat} ± s.d. over seeds", *(f"minus {other}" for other in with_)]
    lines = [" | ".join(headings), " | ".join([":---", *["---:"] * (len(headings) - 1)])]
    for row in rows:
        cells = [f"`{row['way']}`"]
        cells += [f"{statistics.median(row[f'{part}_seconds']):.2f}" for part in ("step", "attack")]
        spread = f" ± {statistics.stdev(row['seed_means']):.3f}" if len(row["seeds"]) > 1 else ""
        cells += [f"{row['fidelity']:.3f}", f"{row['left']:.3f}{spread}"]
        for other in with_:
            key = f"minus {other}"
            cells.append(_difference(row[key], row[f"{key} ci95"]) if key in row else "")
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _difference(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:+.3f}" if interval is None else f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainings", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="runs WAY-seed-N, and evaluations of them in eval*")
    parser.add_argument("--threat", default="adaptive", help="the one that tells what is left")
    parser.add_argument("--turns", type=int, default=5, help="of the timing; the median is told")
    parser.add_argument("--compare", nargs="+", default=[], metavar="WAY")
    parser.add_argument("--out", type=Path, default=None, help="default benchmarks/results/FOLDER-cpu-DATE.json")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    load_plugin(PLUGIN)
    groups, ways = measured(options.folder, options.threat)
    files = {way: next(iter(sorted(options.folder.glob(f"{way}-seed-[0-9]*/config.yaml")))) for way in ways}
    configs = {way: load_config("train", file) for way, file in files.items()}
    seconds, compute = timed(configs, options.turns)
    rows = compared(groups, ways, seconds, options.compare)
    settings = argparse.Namespace(**{**vars(options), "folder": str(options.folder)})
    out = written(rows, settings, compute, f"{options.folder.name}-")
    print(f"{table(rows, options.compare, options.threat)}\nwritten to {out}")


if __name__ == "__main__":
    main()
