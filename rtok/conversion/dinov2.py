"""The DINOv2 code base's format: `register_tokens` holds the model's own registers, then the robustness tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from rtok.conversion import official
from rtok.conversion.files import check_suffix, save_tensors
from rtok.conversion.model import RobustModel
from rtok.conversion.source import Source
from rtok.models.naming import dinov2 as naming
from rtok.models.naming.rules import Naming


class Dinov2:
    """A state dict, and beside it the config file for the code base's evaluation scripts."""

    name = "dinov2"
    reader = official.READER

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes."""
        check_suffix(out)
        return [out, out.with_suffix(".yaml")]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size at which features are compared; the file works at every size."""
        official.check_family(source, "dinov2", self.name)
        official.refuse_image_size(wanted, self.name)
        return source.tokens.image_size or (source.spec.native_size, source.spec.native_size)

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Rename the weights as in the code base."""
        names = _naming(source, registers=source.spec.registers > 0)
        return official.in_naming(source, names, {"mask_token": official.mask_token(source)})

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the state dict and its config."""
        state = model.with_tokens("register_tokens")
        state.setdefault("mask_token", model.stored(official.mask_token(model.source)))
        save_tensors(state, path, model.metadata(self.name))
        path.with_suffix(".yaml").write_text(yaml.safe_dump(_config(model), sort_keys=False))

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the state dict strictly into a model with that many registers."""
        return official.read_back(path, model, _naming(model.source, registers=True))

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        return f"a script of dinov2/eval with --config-file {out.with_suffix('.yaml')} --pretrained-weights {out}"


def is_swiglu(tensors: dict[str, Tensor]) -> bool:
    """Return whether the MLPs are gated; if so, timm stacks two matrices in the first layer."""
    first, second = tensors["blocks.0.mlp.fc1.weight"], tensors["blocks.0.mlp.fc2.weight"]
    return first.shape[0] == 2 * second.shape[1]


def _naming(source: Source, *, registers: bool) -> Naming:
    return naming.official(registers=registers, swiglu=is_swiglu(source.weights.tensors))


def _config(model: RobustModel) -> dict[str, Any]:
    spec, tensors = model.source.spec, model.source.weights.tensors
    size = spec.timm_name.split("_")[1]
    student: dict[str, Any] = {
        "arch": "vit_giant2" if size == "giant" else f"vit_{size}",
        "patch_size": spec.patch_size,
        "num_register_tokens": model.registers,
        "interpolate_antialias": spec.resampling.antialias,
        "interpolate_offset": spec.resampling.offset,
    }
    if is_swiglu(tensors):
        student["ffn_layer"] = "swiglufused"
    return {"student": student, "crops": {"global_crops_size": spec.native_size, "local_crops_size": 98}}
