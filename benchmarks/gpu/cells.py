"""Measures one cell: builds its model on the device, warms up, and times turns of the same work."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor

from benchmarks import naive
from benchmarks.gpu.plan import MODES, NAIVE, NAMES, PAPER, Cell
from benchmarks.measure import gemm_rate, passes, peak_memory, synchronize
from benchmarks.ours import make_config
from rtok.compute import Compute
from rtok.data.loader import Batch
from rtok.models.backbone import Backbone
from rtok.models.registry import find
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer

WARM_UP = 3  # turns: torch's modes with graphs warm up once, record once, and replay from the third on
PATIENCE = 3.0  # seconds after which warming up and timing of one cell end early, with one turn each at least
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
PAPER_STEPS, PAPER_PGD = 50, 30


def measure(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a cell's row says beside the cell."""
    begin = time.perf_counter()
    compute = Compute.start(precision=cell.precision, compile=MODES[cell.mode])
    device, pgd = compute.device, PAPER_PGD if cell.part == PAPER and not options.short else options.steps
    torch.manual_seed(0)
    images = torch.rand(cell.batch, 3, options.image_size, options.image_size, device=device)
    if cell.part == NAIVE:
        work, gflop = _naive(cell, images, pgd), None
        found: dict[str, Any] = {}
    else:
        work, gflop, found = _ours(cell, images, pgd, compute, options)
    turns = 1
    if cell.part == PAPER:
        turns = PAPER_STEPS if not options.short else 2
    setup = time.perf_counter() - begin
    warm, timed = _timed(work, turns, options.repeats if cell.part != PAPER else 1, device)
    row = {"pgd_steps": pgd, "training_steps": turns, "setup_seconds": setup + warm, "seconds": timed}
    row |= {"peak_bytes": peak_memory(lambda: work(), device), **found}
    if gflop is not None:
        rate = _rate(cell, images, device)
        row |= {"gflop": gflop / 1e9, "gemm_gflops": rate / 1e9}
        row["share_of_limit"] = turns * gflop / rate / statistics.median(timed)
    return row


def _timed(work: Callable[[], object], turns: int, repeats: int, device: torch.device) -> tuple[float, list[float]]:
    """Seconds of warming up, and of each repetition of so many turns."""

    def seconds(times: int) -> float:
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(times):
            work()
        synchronize(device)
        return time.perf_counter() - begin

    warm = [seconds(1)]
    while len(warm) < WARM_UP and sum(warm[1:]) < PATIENCE:
        warm.append(seconds(1))
    timed = [seconds(turns)]
    while len(timed) < repeats and sum(timed) < PATIENCE:
        timed.append(seconds(turns))
    return sum(warm), timed


def _naive(cell: Cell, images: Tensor, pgd: int) -> Callable[[], object]:
    spec = find(NAMES.get(cell.model, cell.model))
    with images.device:
        model = naive.NaiveModel(spec.timm_name, images.shape[-1])
    optimizer, x = torch.optim.Adam([model.tokens], lr=1e-3), (images - 0.45) / 0.225
    return lambda: naive.training_step(model, optimizer, x, pgd)


def _ours(
    cell: Cell, images: Tensor, pgd: int, compute: Compute, options: argparse.Namespace
) -> tuple[Callable[[], object], float, dict[str, Any]]:
    """A training step, its FLOPs, and what tells whether all modes do the same."""
    name, B = NAMES.get(cell.model, cell.model), cell.batch
    spec = find(name)
    with images.device:
        vit = timm.create_model(spec.timm_name, img_size=options.image_size, num_classes=0)
    backbone = Backbone(vit, spec, mean=(0.45,) * 3, std=(0.225,) * 3).to(compute.device)
    config = make_config(name, options.image_size, B, pgd, train={"batch_size": B})
    trainees = make_trainees(config, backbone, compute.device)
    robust = trainees[0].defense.detached().model(backbone)
    forward, backward = passes(lambda: backbone(images[:1]))
    defended, defended_backward = passes(lambda: robust(images[:1]))
    flops = B * ((pgd + 1) * forward + pgd * backward + 2 * (defended + defended_backward))
    keys = tuple(f"{b}.png" for b in range(B))
    trainer = Trainer(config, compute, compute.prepare(backbone), trainees)
    batch = Batch(images, keys, None, keys, (0,) * B)
    undefended = trainer.attacker.on_plain(1, batch).undefended.mean().item()
    return lambda: trainer.step(1, batch), flops, {"captured": compute.graphs, "undefended": undefended}


def _rate(cell: Cell, images: Tensor, device: torch.device) -> float:
    """FLOP/s of the largest product of the cell's model, in its arithmetic."""
    spec = find(NAMES.get(cell.model, cell.model))
    tokens = (images.shape[-1] // spec.patch_size) ** 2 + 1
    return gemm_rate(device, DTYPES[cell.precision], spec.dim, cell.batch * tokens)
