"""Compute the peak memory of a training step from its tensors' shapes, without a GPU: `python -m benchmarks.memory`.

The step runs on fake tensors, which have shapes and lifetimes but no values; every allocation and release is counted.
What a GPU adds is not: the CUDA context (about 0.5 GB), the allocator's rounding and the workspaces of its libraries.
"""

from __future__ import annotations

import argparse
import gc
import weakref
from typing import Any

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.ours import make_config
from rtok.attacks import FeatureCriterion, FixedSurrogate, Objective
from rtok.attacks.objective import Step
from rtok.compute import Compute
from rtok.models.backbone import Backbone
from rtok.models.registry import find
from rtok.training.attacker import AttackedBatch
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer


class Memory(TorchDispatchMode):
    """Bytes of the storages that are alive, now and at the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.finalize[[int, int], Any]] = {}

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed; a view's is counted already."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = weakref.finalize(storage, self._free, key, storage.nbytes())
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        del self._alive[key]
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


def peaks(
    model: str, image_size: int, batch: int, dtype: torch.dtype, defense: dict[str, Any] | None = None, **options: Any
) -> tuple[int, int, int]:
    """Bytes of the weights, and at the peaks of a PGD step and of the defense's update.

    Args:
        defense: its section; the attack then goes through it. None: the paper's tokens and its attack.
    """
    spec = find(model)
    # not Adam, whose step counter would need a value; its state is twice the defense's parameters
    train = {"batch_size": batch, "optimizer": "sgd", **options}
    config = make_config(model, image_size, batch, 1, train=train, **({"defense": defense} if defense else {}))
    memory = Memory()
    with torch.device("meta"):
        vit = timm.create_model(spec.timm_name, img_size=image_size, num_classes=0).to(dtype)
    with FakeTensorMode(allow_non_fake_inputs=True), memory:
        vit.to_empty(device="cpu")
        backbone = Backbone(vit, spec, mean=(0.5,) * 3, std=(0.25,) * 3)
        backbone.activation_checkpointing = config.train.activation_checkpointing
        gc.collect()
        weights = memory.now
        clean, adversarial = (torch.rand(batch, 3, image_size, image_size) for _ in range(2))
        target = torch.rand(batch, 1 + backbone.grid[0] * backbone.grid[1], backbone.dim)
        trainees = make_trainees(config, backbone, clean.device)
        memory.peak = memory.now
        criterion = FeatureCriterion(target, "token")
        surrogate = FixedSurrogate(trainees[0].defense.detached().model(backbone) if defense else backbone)
        Objective(surrogate, criterion, config.train.micro_batch).loss_and_gradient(adversarial, Step(0, 0))
        del surrogate
        attack, memory.peak = memory.peak, memory.now
        trainer = Trainer(config, Compute.start(), backbone, trainees)
        trainer.update(
            trainees[0], AttackedBatch(clean, adversarial, target, target[:, 0, 0], [], [], [], config.attacks[0].eps)
        )
        return weights, attack, memory.peak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["dinov2_vits14", "dinov2_vitl14", "dinov2_vitg14"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    table = Table(title=f"GiB at {arguments.image_size} px, batch {arguments.batch}, 10 tokens")
    for heading in ("model", "precision", "options", "weights", "PGD step", "update"):
        table.add_column(heading)
    for model in arguments.models:
        for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
            for options in ({}, {"micro_batch": 2}, {"activation_checkpointing": True}):
                found = peaks(model, arguments.image_size, arguments.batch, dtype, **options)
                shown = ", ".join(f"{key}: {value}" for key, value in options.items())
                table.add_row(model, name, shown, *(f"{size / 2**30:.1f}" for size in found))
    Console().print(table)


if __name__ == "__main__":
    main()
