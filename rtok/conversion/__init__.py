"""Conversion: tokens baked into the checkpoint formats that the ecosystem loads."""

from rtok.conversion.run import Converted, convert

__all__ = ["Converted", "convert"]
