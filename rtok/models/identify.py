"""Which backbone a file's weights belong to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from rtok.errors import UserError
from rtok.models.loading import Weights, translate_weights
from rtok.models.registry import all_specs
from rtok.models.spec import ModelSpec


def identify(state: Mapping[str, Tensor], path: Path) -> list[tuple[ModelSpec, Weights]]:
    """Return every named backbone that a state dict fits to the last key: one, or none, for real files.

    Only names and shapes are compared: the weights returned are on the meta device.
    """
    shapes = {name: tensor.to("meta") for name, tensor in state.items()}
    widths = {tensor.shape[-1] for tensor in shapes.values() if tensor.ndim}
    found = []
    for spec in all_specs():
        if spec.dim in widths and spec.build is None:  # spares building models that cannot fit
            with suppress(UserError):
                found.append((spec, translate_weights(spec, shapes, path)))
    return found


def only_match(state: Mapping[str, Tensor], path: Path) -> ModelSpec:
    """Return the one named backbone that a state dict fits.

    Raises:
        UserError: it fits none, or several.
    """
    found = [spec for spec, _ in identify(state, path)]
    if len(found) != 1:
        what = "fit no backbone that `rtok models` lists" if not found else "fit several backbones: "
        raise UserError(
            f"The weights in '{path}' {what}{', '.join(spec.name for spec in found)}. Name the backbone: --model NAME, "
            "in Python model=NAME."
        )
    return found[0]
