"""The formats. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from torch import Tensor

from rtok.conversion.dinov2 import Dinov2
from rtok.conversion.dinov3 import Dinov3
from rtok.conversion.model import RobustModel
from rtok.conversion.onnx import Onnx
from rtok.conversion.peft import Peft
from rtok.conversion.source import Source
from rtok.conversion.timm import Timm
from rtok.conversion.torch_export import TorchExport
from rtok.conversion.transformers import Transformers
from rtok.errors import UserError, nearest


class Target(Protocol):
    """A format: what it can store, how it is written, and how its own library reads it."""

    name: str
    reader: str  # the library that `read` uses
    holds_entries: bool  # whether it holds a defense that is neither registers nor a change of the weights
    merges: bool  # whether a defense that can go into the weights does

    @property
    def computes_in(self) -> Collection[str]:
        """Which of the half types its arithmetic is in too; in the others it only stores numbers."""
        ...

    def outputs(self, out: Path) -> list[Path]:
        """Return every file that a conversion to `out` may write, the model first.

        Raises:
            UserError: the suffix belongs to another format.
        """
        ...

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the (height, width) that the file is made for or compared at; `wanted` is the user's choice.

        Raises:
            UserError: the format cannot store this model or this size, or a package is missing.
        """
        ...

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Return the source with its weights in the form that the format stores, in full precision."""
        ...

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the file or folder `path`."""
        ...

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load `path` strictly into the format's library; return its function from images in [0, 1] to features."""
        ...

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return one line that shows the user how to load `out`."""
        ...


TARGETS: dict[str, Target] = {
    target.name: target for target in (Dinov2(), Dinov3(), Timm(), Transformers(), Onnx(), TorchExport(), Peft())
}


def find_target(name: str) -> Target:
    """Return the format of that name, or raise UserError."""
    if name not in TARGETS:
        raise UserError(f"--to {name}: no such format.{nearest(name, TARGETS)} Valid: {', '.join(TARGETS)}.")
    return TARGETS[name]
