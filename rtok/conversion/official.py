"""What the formats of the DINOv2 and DINOv3 code bases share: tokens follow the model's own registers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from rtok.checkpoints import read_checkpoint, state_dict
from rtok.conversion.files import check_suffix, save_tensors
from rtok.conversion.model import RobustModel, with_registers
from rtok.conversion.source import Source
from rtok.errors import UserError
from rtok.models.loading import translate_weights
from rtok.models.naming.rules import Naming
from rtok.models.weights import translate_back


class Official(ABC):
    """A state dict with a code base's own names. It works at every size: the code base resamples positions.

    `name` is that of the format and of the family of backbones, `registers` the key of the registers.
    """

    name: str
    registers: str
    reader = "timm"  # the code bases are not installable packages
    holds_entries = False
    computes_in = ()
    merges = True

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes."""
        check_suffix(out)
        return [out]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size at which features are compared."""
        if source.spec.family != self.name:
            raise UserError(
                f"--to {self.name} only works for {self.name} backbones, but this defense is for "
                f"'{source.spec.name}' ({source.spec.family}). Choose another format with --to: timm, transformers or "
                "onnx."
            )
        if wanted is not None:
            raise UserError(
                f"--image-size has no effect with --to {self.name}: its code base resamples positions to any size."
            )
        return source.trained_size

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Rename the weights as in the code base, and add what only its files hold."""
        naming, state = self.naming(source), source.weights.source
        if source.weights.naming != naming:
            state = translate_back(source.weights.tensors, naming)
        state = {**self.constants(source), **state}
        return replace(source, weights=replace(source.weights, source=state, naming=naming))

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the state dict."""
        save_tensors(model.with_tokens(self.registers), path, model.metadata(self.name))

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the state dict strictly into a model with that many registers and no defense."""
        spec, added = model.source.spec, model.source.count > 0
        if added:
            spec = with_registers(spec, model.backbone, model.registers)
        spec = replace(spec, namings=(self.naming(model.source, registers=added),))
        weights = translate_weights(spec, state_dict(read_checkpoint(path), path), path)
        return replace(model.source, spec=spec, weights=weights).backbone(model.backbone.image_size)

    def constants(self, source: Source) -> dict[str, Tensor]:
        """Return the tensors that only this format has, and that strict loading in the code base requires."""
        return {"mask_token": mask_token(source)}

    @abstractmethod
    def naming(self, source: Source, *, registers: bool = False) -> Naming:
        """Return the code base's names for a model, or for the same with registers added."""


def mask_token(source: Source) -> Tensor:
    """Return the mask token (1, D), which only training uses: zeros if the weights have none."""
    state = source.weights.source
    found = state.get("mask_token", state.get("embeddings.mask_token"))
    if found is None:
        return source.weights.tensors["cls_token"].new_zeros(1, source.spec.dim)
    return found.reshape(1, source.spec.dim)
