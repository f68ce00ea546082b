"""Formats that store the position grid for one image size."""

from __future__ import annotations

from dataclasses import replace

from rtok.conversion.source import Source
from rtok.errors import UserError
from rtok.models.spec import ModelSpec


def square(source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size that a file is made for: `wanted`, or else the native size of the weights.

    Raises:
        UserError: the size is not square.
    """
    if wanted is None:
        return source.spec.native_size, source.spec.native_size
    if wanted[0] != wanted[1]:
        raise UserError(
            f"--image-size {wanted[0]}x{wanted[1]} is not square, but this format only takes squares. "
            "Give one number, or use --to onnx."
        )
    return wanted


def at_size(spec: ModelSpec, image_size: tuple[int, int]) -> ModelSpec:
    """Return the model with the position grid for this size as its native one."""
    return replace(spec, native_size=image_size[0])
