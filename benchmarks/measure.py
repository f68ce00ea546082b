"""Seconds, FLOPs, the machine's rate of matrix products, and peak memory."""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rtok.compute import Compute
from rtok.files import write_json
from rtok.models.frozen import onednn_product
from rtok.runs.record import versions


def in_turns(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time several works A B A B ..., after one uncounted turn, so that a drifting machine is fair to all."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            synchronize(device)
            begin = clock()
            work()
            synchronize(device)
            if turn:
                seconds[name].append(clock() - begin)
    return seconds


def passes(forward: Callable[[], object]) -> tuple[int, int]:
    """FLOPs of a forward pass, and of the backward pass to its input alone.

    A frozen product costs one product backward (the input's gradient), attention's two products cost two each.
    What an implementation recomputes is not counted: the limit is what the mathematics needs.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_uncounted())
    with torch.no_grad(), counter:
        forward()
    counts = counter.get_flop_counts()["Global"]
    attention = sum(count for op, count in counts.items() if "attention" in str(op) or "bmm" in str(op))
    total = counter.get_total_flops()
    return total, total + attention


def _uncounted() -> dict[Any, Callable[..., int]]:
    """How to count operators that torch does not, where this torch has them: frozen products, attention on a CPU."""
    own = {
        getattr(torch.ops.mkldnn, "_linear_pointwise", None): _product_flops,
        getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None): _attention_flops,
    }
    return {operator: count for operator, count in own.items() if operator is not None}


def _product_flops(input: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(input) * weight[0]


def _attention_flops(query: Sequence[int], key: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * 2 * math.prod(query) * key[-2]


def gemm_rate(device: torch.device, dtype: torch.dtype, dim: int, rows: int) -> float:
    """FLOP/s of the largest product that a ViT of this width makes, the median of ten."""
    work, flops = largest_product(device, dtype, dim, rows)
    return flops / statistics.median(in_turns({"": work}, 10, device)[""])


def largest_product(
    device: torch.device, dtype: torch.dtype, dim: int, rows: int
) -> tuple[Callable[[], object], float]:
    """Return a work that multiplies (rows, D) by (D, 4D), often enough for a clock, and its FLOPs.

    On a CPU it takes the faster of PyTorch's two libraries, which is oneDNN on some machines and MKL on others.
    """
    a = torch.randn(rows, dim, device=device, dtype=dtype)
    b = torch.randn(4 * dim, dim, device=device, dtype=dtype)
    many = 100 if device.type == "cuda" else 10

    def repeat(product: Callable[[], Any]) -> None:
        for _ in range(many):
            product()

    works: dict[str, Callable[[], object]] = {"default": partial(repeat, lambda: torch.mm(a, b.t()))}
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        works["onednn"] = partial(repeat, lambda: onednn_product(a, b, None))
    seconds = {name: min(turns) for name, turns in in_turns(works, 3, device).items()}
    return works[min(works, key=lambda name: seconds[name])], many * 2.0 * rows * dim * 4 * dim


def synchronize(device: torch.device) -> None:
    """Wait for what was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes at the peak of one call on a GPU; None on the CPU, where a process has one peak for all it did."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def process_peak() -> int:
    """Bytes at this process's peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def written(rows: list[dict[str, Any]], options: argparse.Namespace, compute: Compute, prefix: str) -> Path:
    """Write the rows with what they were measured on, to `--out` or under the device and the day; return the file."""
    device, today = compute.describe(), date.today().isoformat()
    out: Path = options.out or Path("benchmarks/results") / f"{prefix}{device['type']}-{today}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    write_json(out, {"date": today, "device": device, "versions": versions(), "settings": settings, "rows": rows})
    return out
