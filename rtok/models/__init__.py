"""Backbones: what can be named, how their weights are read, and the one way something enters their blocks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone
    from rtok.models.defended import Defended, Features
    from rtok.models.loading import load_backbone

__all__ = ["Backbone", "Defended", "Features", "load_backbone"]

_HOME = {"Backbone": "backbone", "Defended": "defended", "Features": "defended", "load_backbone": "loading"}


def __getattr__(name: str) -> Any:
    """Import torch and timm only when a backbone is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
