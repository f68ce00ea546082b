"""Device, precision and processes, all through Accelerate."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from rtok.errors import UserError
from rtok.models.half import pays

if TYPE_CHECKING:
    from accelerate import Accelerator

    from rtok.config.schema import Compile, Precision
    from rtok.models.backbone import Backbone

Row = TypeVar("Row")

_PRECISIONS = {
    "fp32": "fp32, exact; precision: auto attacks faster where the machine multiplies in bf16",
    "auto": "fp32, exact; precision: auto found no bf16 that is faster here",
    "tf32": "fp32 with tf32 matrix products",
    "bf16": "bf16 backbone; images, defenses, features and losses in fp32",
}
_HALF = "fp32, and bf16 products in the gradients of attacks"


@dataclass(frozen=True)
class Compute:
    """The device, the precision and the processes of a run.

    `fp32` is full precision. `tf32` lets matrix products on NVIDIA cards round their inputs to 10 bits of mantissa.
    `auto` is `fp32`, but the gradients of attacks have bfloat16 products where the device is faster with them
    (`rtok.models.half`). `bf16` holds the frozen weights and activations in bfloat16; images, tokens, features and
    every loss stay float32.

    `compile` is a mode of `torch.compile`, for the backbone; or `cuda-graphs`, with which nothing is compiled and the
    passes of an attack's steps are captured on a GPU, and replayed (`rtok.attacks.graphs`).
    """

    accelerator: Accelerator
    precision: Precision = "fp32"
    compile: Compile = False

    @classmethod
    def start(
        cls, *, precision: Precision = "fp32", compile: Compile = False, tracking: str = "none", out: Path | None = None
    ) -> Compute:
        """Join the launched processes and choose this process's device.

        Args:
            tracking: the tracker that `rtok.runs.tracking` will use; TensorBoard writes into `out`.

        Raises:
            UserError: there are more processes than GPUs, and nobody said that they run on the CPU.
        """
        from accelerate import Accelerator

        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        if torch.cuda.is_available():
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
        logs = None if out is None else out / "tensorboard"
        try:
            accelerator = Accelerator(log_with=None if tracking == "none" else tracking, project_dir=logs)
        except (RuntimeError, ValueError) as error:
            launched = int(os.environ.get("WORLD_SIZE", "1"))
            if launched <= max(1, torch.cuda.device_count()) or "ACCELERATE_USE_CPU" in os.environ:
                raise
            raise UserError(
                f"Accelerate cannot start {launched} processes on {torch.cuda.device_count()} GPUs ({error}): to run "
                "them on the CPU, set ACCELERATE_USE_CPU=true."
            ) from error
        return cls(accelerator, precision, compile)

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return self.accelerator.device

    @property
    def process(self) -> int:
        """This process's rank, from 0."""
        return self.accelerator.process_index

    @property
    def processes(self) -> int:
        """The number of processes of this run, on all machines."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.accelerator.is_main_process

    def prepare(self, backbone: Backbone) -> Backbone:
        """Move a frozen backbone to the device in this precision, and have it compiled if `compile` says so."""
        backbone.to(self.device, torch.bfloat16 if self.precision == "bf16" else torch.float32)
        backbone.half_gradients = self.half_gradients
        if self.compile and self.compile != "cuda-graphs":
            backbone.compile_forward(self.compile)
        return backbone

    @property
    def half_gradients(self) -> bool:
        """Whether attacks take their gradients with bfloat16 products."""
        return self.precision == "auto" and pays(self.device)

    @property
    def graphs(self) -> bool:
        """Whether the passes of attacks are captured and replayed."""
        return self.compile == "cuda-graphs" and self.device.type == "cuda"

    def mean(self, value: Tensor) -> Tensor:
        """Average a tensor over the processes."""
        return self.accelerator.reduce(value, "mean") if self.processes > 1 else value

    def gather(self, rows: list[Row]) -> list[Row]:
        """Concatenate the processes' lists in the order of their ranks; every process gets the result."""
        if self.processes == 1:
            return rows
        from accelerate.utils import gather_object

        return list(gather_object(rows))

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        self.accelerator.wait_for_everyone()

    def summary(self) -> str:
        """Return one line for the start of a run: the device, the processes and the precision."""
        about = self.describe()
        where = about["name"] if self.device.type == "cuda" else f"CPU with {about['threads']} threads"
        several = f", {self.processes} processes" if self.processes > 1 else ""
        how = _HALF if self.half_gradients else _PRECISIONS[self.precision]
        return f"computing on {where}{several}: {how}{self._compiled()}"

    def _compiled(self) -> str:
        if not self.compile:
            return ""
        if self.graphs:
            return ", the passes of attacks replayed as CUDA graphs"
        return "; compile: cuda-graphs is for GPUs" if self.compile == "cuda-graphs" else f", compiled ({self.compile})"

    def describe(self) -> dict[str, Any]:
        """Return what `run.json` says about the machine, which never includes its host name."""
        cuda = self.device.type == "cuda"
        return {
            "type": self.device.type,
            "name": torch.cuda.get_device_name(self.device) if cuda else platform.machine(),
            "processes": self.processes,
            "threads": torch.get_num_threads(),
            "cpus": os.cpu_count(),
            "precision": self.precision,
            "half_gradients": self.half_gradients,
            "compile": self.compile,
        }
