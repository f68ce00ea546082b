"""Conversion: tokens baked into the checkpoint formats that other libraries load."""

from rtok.conversion.run import Converted, convert

__all__ = ["Converted", "convert"]
