"""What the formats of the DINOv2 and DINOv3 code bases share: tokens follow the model's own registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from rtok.checkpoints import read_checkpoint, state_dict
from rtok.conversion.model import RobustModel, with_registers
from rtok.conversion.source import Source
from rtok.errors import UserError
from rtok.models.loading import translate_weights
from rtok.models.naming.rules import Naming
from rtok.models.weights import translate_back

# The code bases are not installable packages, so timm reads the files back.
READER = "timm"


def check_family(source: Source, family: str, target: str) -> None:
    """Raise UserError if the code base does not have this backbone."""
    if source.spec.family != family:
        raise UserError(
            f"--to {target} only works for {target} backbones, but these tokens are for '{source.spec.name}' "
            f"({source.spec.family}). Choose another format with --to: timm, transformers or onnx."
        )


def refuse_image_size(wanted: tuple[int, int] | None, target: str) -> None:
    """Raise UserError if an image size is given for a format that works at every size."""
    if wanted is not None:
        raise UserError(
            f"--image-size has no effect with --to {target}: its code base resamples positions to any size."
        )


def in_naming(source: Source, naming: Naming, extras: dict[str, Tensor]) -> Source:
    """Return the source with the code base's names; a file that has them already is kept unchanged."""
    if source.weights.naming == naming:
        return source
    state = {**translate_back(source.weights.tensors, naming), **extras}
    return replace(source, weights=replace(source.weights, source=state, naming=naming))


def mask_token(source: Source) -> Tensor:
    """Return the mask token (1, D), which only training uses: zeros if the weights have none."""
    state = source.weights.source
    found = state.get("mask_token", state.get("embeddings.mask_token"))
    if found is None:
        return source.weights.tensors["cls_token"].new_zeros(1, source.spec.dim)
    return found.reshape(1, source.spec.dim)


def read_back(path: Path, model: RobustModel, naming: Naming) -> Callable[[Tensor], Tensor]:
    """Load the file into a model with that many registers and no tokens; return what computes its features."""
    spec = with_registers(model.source.spec, model.backbone, model.registers)
    spec = replace(spec, namings=(naming,))
    weights = translate_weights(spec, state_dict(read_checkpoint(path), path), path)
    return replace(model.source, spec=spec, weights=weights).backbone(model.backbone.image_size)
