"""The DINOv2 code base's format: `register_tokens` holds the model's own registers, then the robustness tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from rtok.conversion.model import RobustModel
from rtok.conversion.official import Official
from rtok.conversion.source import Source
from rtok.models.naming import dinov2 as naming
from rtok.models.naming.rules import Naming


class Dinov2(Official):
    """A state dict, and beside it the config file for the code base's evaluation scripts."""

    name = "dinov2"
    registers = "register_tokens"

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes."""
        return [*super().outputs(out), out.with_suffix(".yaml")]

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the state dict and its config."""
        super().write(model, path)
        path.with_suffix(".yaml").write_text(yaml.safe_dump(_config(model), sort_keys=False))

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        files = f"--config-file {out.with_suffix('.yaml')} --pretrained-weights {out}"
        return f"a script of dinov2/eval with {files}  # {model.input}"

    def naming(self, source: Source, *, registers: bool = False) -> Naming:
        """Return the code base's names, which differ for models with registers."""
        return naming.official(
            registers=registers or source.spec.registers > 0, swiglu=is_swiglu(source.weights.tensors)
        )


def is_swiglu(tensors: dict[str, Tensor]) -> bool:
    """Return whether the MLPs are gated; if so, timm stacks two matrices in the first layer."""
    first, second = tensors["blocks.0.mlp.fc1.weight"], tensors["blocks.0.mlp.fc2.weight"]
    return first.shape[0] == 2 * second.shape[1]


def _config(model: RobustModel) -> dict[str, Any]:
    spec = model.source.spec
    size = spec.timm_name.split("_")[1]
    student: dict[str, Any] = {
        "arch": "vit_giant2" if size == "giant" else f"vit_{size}",
        "patch_size": spec.patch_size,
        "num_register_tokens": model.registers,
        "interpolate_antialias": spec.resampling.antialias,
        "interpolate_offset": spec.resampling.offset,
    }
    if is_swiglu(model.source.weights.tensors):
        student["ffn_layer"] = "swiglufused"
    return {"student": student, "crops": {"global_crops_size": spec.native_size, "local_crops_size": 98}}
