"""Time `rtok` against the naive path, in one process and in turns; print a table and write JSON.

`make bench` runs it on the CPU with the paper's setting for ViT-S/14; `python -m benchmarks.gpu` is for GPUs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import naive, peers
from benchmarks.measure import in_turns, largest_product, peak_memory, process_peak, written
from benchmarks.ours import Ours, load_random, make_config
from rtok.compute import Compute
from rtok.models.registry import find

PARTS = ("attack", "step", "evaluation", "peers")
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["dinov2_vits14"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--steps", type=int, default=30, help="PGD steps (the paper: 30)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["attack", "step", "evaluation"])
    parser.add_argument("--victims", type=int, default=2, help="robust victims in the evaluation")
    parser.add_argument("--repeats", type=int, default=5, help="turns that count, of which the median is told")
    parser.add_argument("--precision", choices=[*DTYPES, "auto"], default="fp32", help="of rtok; all others are fp32")
    parser.add_argument(
        "--compile", nargs="?", const="default", default=False, help="compile rtok's backbone, in a mode"
    )
    parser.add_argument("--micro-batch", type=int, default=None, help="rtok's train.micro_batch")
    parser.add_argument("--no-naive", action="store_true", help="time rtok alone")
    parser.add_argument("--out", type=Path, default=None, help="JSON file; default benchmarks/results/DEVICE-DATE.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    compute = Compute.start(precision=options.precision, compile=options.compile)
    rows = [
        row for model in options.models for batch in options.batch for row in measure(model, batch, options, compute)
    ]
    out = written(rows, options, compute, "")
    show(rows, compute.describe())
    print(f"written to {out}")


def measure(model: str, batch: int, options: argparse.Namespace, compute: Compute) -> list[dict[str, Any]]:
    """One row per part: seconds of both paths, their ratio, and what its matrix products alone would take."""
    torch.manual_seed(0)
    spec, device, steps = find(model), compute.device, options.steps
    images = torch.rand(batch, 3, options.image_size, options.image_size).to(device)
    backbone = load_random(model, options.image_size)
    more = {"train": {"batch_size": batch, "micro_batch": options.micro_batch}}
    config = make_config(model, options.image_size, batch, steps, **more)
    ours = Ours(config, compute.prepare(backbone), compute, images, options.victims)
    exact = DTYPES.get(options.precision, torch.float32)
    dtypes = {"gradients": torch.bfloat16 if compute.half_gradients else exact, "others": exact}
    rows = batch * (backbone.grid[0] * backbone.grid[1] + 1)
    products = {name: largest_product(device, dtype, spec.dim, rows) for name, dtype in dtypes.items()}
    reference = None
    if not options.no_naive:
        reference = naive.NaiveModel(spec.timm_name, options.image_size).to(device)
    works = {part: part_works(part, ours, reference, (images - 0.45) / 0.225, options) for part in options.parts}
    return [report(model, batch, part, works[part], ours, products, options, compute) for part in options.parts]


def part_works(
    part: str, ours: Ours, reference: naive.NaiveModel | None, x: torch.Tensor, options: argparse.Namespace
) -> dict[str, Callable[[], object]]:
    """The naive path (if wanted) and ours, for one part."""
    if part == "peers":
        if reference is None:
            raise SystemExit("The peers are timed on the naive path's model: leave --no-naive out.")
        return peers.works(reference, ours.backbone, ours.images, options.steps)
    own = {"attack": ours.attack, "step": ours.training_step, "evaluation": ours.evaluation}[part]
    if reference is None:
        return {"rtok": own}
    optimizer = torch.optim.Adam([reference.tokens], lr=1e-3)

    def old() -> None:
        if part == "attack":
            naive.attack(reference, x, options.steps)
        elif part == "step":
            naive.training_step(reference, optimizer, x, options.steps)
        else:
            naive.evaluation(reference, x, options.steps, options.victims)

    return {"naive": old, "rtok": own}


def report(
    model: str,
    batch: int,
    part: str,
    works: dict[str, Callable[[], object]],
    ours: Ours,
    products: dict[str, tuple[Callable[[], object], float]],
    options: argparse.Namespace,
    compute: Compute,
) -> dict[str, Any]:
    # Products take their turns beside the works: how fast a shared machine multiplies changes from minute to minute.
    measured = {name: product for name, (product, _) in products.items()}
    seconds = in_turns({**works, **measured}, options.repeats, compute.device)
    counted = dict(zip(products, ours.flops(part), strict=True))
    per_flop = {name: [turn / flops for turn in seconds.pop(name)] for name, (_, flops) in products.items()}
    limit = [sum(counted[name] * per_flop[name][turn] for name in products) for turn in range(options.repeats)]
    rtok, old = seconds.pop("rtok"), seconds.pop("naive", None)
    return {
        "model": model,
        "batch": batch,
        "image_size": options.image_size,
        "pgd_steps": options.steps,
        "part": part,
        "precision": options.precision,
        "compile": options.compile,
        "naive_seconds": old,
        "rtok_seconds": rtok,
        **({"peers_seconds": seconds} if seconds else {}),
        "rtok_over_naive": old and times(rtok, old),
        "speedup": old and times(old, rtok),
        "rtok_seconds_per_image_and_step": statistics.median(rtok) / batch / options.steps,
        "gflop": {name: flops / 1e9 for name, flops in counted.items()},
        "gemm_gflops": {name: 1e-9 / statistics.median(values) for name, values in per_flop.items()},
        "limit_seconds": limit,
        "share_of_limit": times(limit, rtok),
        "peak_bytes": peak_memory(works["rtok"], compute.device),
        "process_peak_bytes": process_peak(),
    }


def times(one: list[float], other: list[float]) -> float:
    """How many times as long as the other the first took: the median over turns, so that both saw the same machine."""
    return statistics.median(mine / its for mine, its in zip(one, other, strict=True))


def show(rows: list[dict[str, Any]], device: dict[str, Any]) -> None:
    """Print a table per model and batch: of each program the median of its turns, their range, and the times `rtok`.

    `products alone` is what the matrix products that a part needs would take at the machine's rate.
    """
    for model, batch in dict.fromkeys((row["model"], row["batch"]) for row in rows):
        threads = f"{device['threads']} thread{'s' * (device['threads'] > 1)}"
        title = f"{model}, batch {batch}, on {device['name']} with {threads}"
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
        for heading in ("part", "program", "seconds", "turns", "x rtok"):
            table.add_column(heading, justify="left" if heading in ("part", "program") else "right", no_wrap=True)
        for row in (row for row in rows if (row["model"], row["batch"]) == (model, batch)):
            programs = {"naive": row["naive_seconds"], **row.get("peers_seconds", {}), "rtok": row["rtok_seconds"]}
            for name, turns in {**programs, "products alone": row["limit_seconds"]}.items():
                if turns is not None:
                    median, spread = statistics.median(turns), f"{min(turns):.2f} to {max(turns):.2f}"
                    ratio = times(turns, row["rtok_seconds"])
                    table.add_row(row["part"], name, f"{median:.2f}", spread, f"{ratio:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
