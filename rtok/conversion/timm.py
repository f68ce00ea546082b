"""timm's format: a model of the `reg` architecture, whose registers have no positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rtok.checkpoints import read_checkpoint
from rtok.conversion.files import check_suffix, save_tensors
from rtok.conversion.model import RobustModel, with_registers
from rtok.conversion.source import Source
from rtok.errors import UserError
from rtok.models.loading import Weights
from rtok.models.naming.timm import TIMM


class Timm:
    """A state dict that loads strictly into `timm.create_model(...)` with that many registers."""

    name = "timm"
    reader = "timm"
    holds_entries = False
    computes_in = ()
    merges = True

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes."""
        check_suffix(out)
        return [out]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size that the file's position grid is made for."""
        return source.square_size(wanted)

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Resample the positions for the size, and add the class token's position to the token itself."""
        backbone, spec = source.backbone(image_size), replace(source.spec, native_size=image_size[0])
        if source.count == 0:
            tensors = dict(backbone.vit.state_dict())
            return replace(source, spec=spec, weights=Weights(tensors, tensors, TIMM))
        reason = _why_no_registers(backbone.vit)
        if reason:
            raise UserError(
                f"timm cannot store the tokens as registers of '{source.spec.name}': {reason}. "
                "Use --to onnx, or `rtok.robustify` in Python."
            )
        spec = with_registers(spec, backbone, backbone.num_registers)
        tensors = _without_prefix_positions(backbone.vit)
        return replace(source, spec=spec, weights=Weights(tensors, tensors, TIMM))

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the state dict; its metadata says how to build the model."""
        name, kwargs = architecture(model)
        metadata = model.metadata(self.name, image_size=model.backbone.image_size, timm=[name, kwargs])
        save_tensors(model.with_tokens("reg_token"), path, metadata)

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the state dict strictly into timm's model; return what computes its features without registers."""
        name, kwargs = architecture(model)
        vit: Any = timm.create_model(name, **kwargs).eval()
        vit.load_state_dict(read_checkpoint(path))

        def features(images: Tensor) -> Tensor:
            with torch.no_grad():
                if model.backbone.kind == "embedding":
                    return vit(model.normalize(images))
                sequence = vit.forward_features(model.normalize(images))
            patches = sequence[:, vit.num_prefix_tokens :]
            first = vit.pool(patches)[:, None] if vit.cls_token is None else sequence[:, :1]
            return torch.cat([first, patches], dim=1)

        return features

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        name, kwargs = architecture(model)
        arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        load = f'timm.create_model("{name}", checkpoint_path="{out}", {arguments})'
        return f"{load}  # {model.input}; forward_features has patches from {model.first_patch} on"


def architecture(model: RobustModel) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of `timm.create_model` for the robust model."""
    spec = model.source.spec
    if model.source.count:
        spec = with_registers(spec, model.backbone, model.registers)
    outputs = model.backbone.vit.num_classes if spec.kind == "embedding" else 0  # the width of an embedding
    kwargs = {**spec.timm_kwargs, "num_classes": outputs, "img_size": model.backbone.image_size[0]}
    return spec.timm_name.partition(".")[0], kwargs


def _why_no_registers(vit: Any) -> str:
    """Return why registers in timm cannot stand for the tokens, or the empty string if they can."""
    if type(vit) not in (VisionTransformer, Eva):
        return f"its class {type(vit).__name__} has none"
    if vit.cls_token is None:
        return "it pools all that is not a patch with the patches"
    if not isinstance(vit.norm_pre, nn.Identity):
        return "it normalizes registers before the first block, but not robustness tokens"
    return ""


def _without_prefix_positions(vit: Any) -> dict[str, Tensor]:
    """Return the weights with the positions of the class token and registers added to the tokens themselves."""
    state = dict(vit.state_dict())
    if "pos_embed" not in state or vit.no_embed_class:
        return state
    prefix = vit.num_prefix_tokens
    positions = state["pos_embed"]
    state["pos_embed"] = positions[:, prefix:]
    state["cls_token"] = state["cls_token"] + positions[:, :1]
    if "reg_token" in state:
        state["reg_token"] = state["reg_token"] + positions[:, 1:prefix]
    return state
