"""Measure what a defense costs in time on the CPU: plain, tokens and a merged LoRA, in torch and ONNX Runtime.

    python scripts/latency.py --weights FILE --tokens RUN --lora RUN [--batch 1 8] [--image-size 224] [--repeats 30]

It prints a Markdown table: median milliseconds a batch, with the 10th and 90th percentile, and the ratio to plain.
The contestants take turns, so that a busy moment of the machine meets all of them alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

import rtok
from rtok.conversion.graph import Graph
from rtok.conversion.onnx import trace
from rtok.defenses import defense_files

WARM_UP = 3  # calls of each before the first that counts: allocations, and the choice of kernels
Run = Callable[[Tensor], object]


def in_onnxruntime(path: Path, threads: int) -> Run:
    """Return what runs a file in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})


def converted(defense: Path, weights: Path, folder: Path, size: int) -> Path:
    """Return the ONNX file of a defense."""
    out = folder / f"{defense.stem}.onnx"
    rtok.convert(defense, out, to="onnx", backbone_weights=weights, image_size=size)
    return out


def plain_graph(backbone: rtok.Backbone, folder: Path) -> Path:
    """Return the ONNX file of the backbone alone."""
    onnx.save_model(trace(Graph(backbone)), folder / "plain.onnx")
    return folder / "plain.onnx"


def merged(backbone: rtok.Backbone, defense: rtok.Defense) -> rtok.Backbone | None:
    """Return the backbone with the defense in its weights; None for kinds that need more."""
    weights = defense.merged_into(backbone.vit.state_dict())
    if weights is None:
        return None
    robust = deepcopy(backbone)
    robust.vit.load_state_dict(weights)
    return robust


def in_turns(contestants: dict[str, Run], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Return the milliseconds of every call."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(WARM_UP + repeats):
        for name, run in contestants.items():
            begin = time.perf_counter()
            with torch.no_grad():
                run(images)
            if turn >= WARM_UP:
                times[name].append(1000 * (time.perf_counter() - begin))
    return times


def table(times: dict[str, list[float]], runtime: str, batch: int, first: bool) -> list[str]:
    """Return the rows of one runtime and batch; the first contestant is what the others are compared with."""
    lines = ["| runtime | batch | model | ms a batch [10 %, 90 %] | to plain |", "| :--- | ---: | :--- | ---: | ---: |"]
    lines = lines if first else []
    plain = statistics.median(next(iter(times.values())))
    for name, values in times.items():
        low, *_, high = statistics.quantiles(values, n=10)
        middle = statistics.median(values)
        lines.append(f"| {runtime} | {batch} | {name} | {middle:.1f} [{low:.1f}, {high:.1f}] | {middle / plain:.3f} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="dinov2_vits14", help="the backbone's name")
    parser.add_argument("--weights", type=Path, required=True, help="its weights")
    parser.add_argument("--tokens", type=Path, required=True, help="a run or file of tokens")
    parser.add_argument("--lora", type=Path, help="a run or file of a LoRA")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = options.image_size
    backbone = rtok.load_backbone(options.model, weights=options.weights, image_size=size)
    files = {"tokens": options.tokens, **({"merged LoRA": options.lora} if options.lora else {})}
    files = {name: defense_files(path)[0] for name, path in files.items()}
    defenses = {name: rtok.load_defense(path) for name, path in files.items()}
    named = {name: f"{d.count} {name}" if d.count else name for name, d in defenses.items()}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch_models: dict[str, Run] = {"plain": backbone}
        graphs = {"plain": in_onnxruntime(plain_graph(backbone, folder), options.threads)}
        for name, defense in defenses.items():
            torch_models[named[name]] = merged(backbone, defense) or defense.model(backbone)
            graphs[named[name]] = in_onnxruntime(converted(files[name], options.weights, folder, size), options.threads)
        for runtime, contestants in (("torch", torch_models), ("onnxruntime", graphs)):
            for batch in options.batch:
                images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
                lines += table(in_turns(contestants, images, options.repeats), runtime, batch, first=not lines)
    print(
        f"{options.model}, {size} px, fp32, {options.threads} threads ({platform.machine()}), "
        f"{options.repeats} repeats; torch {torch.__version__}, onnxruntime {onnxruntime.__version__}\n"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
