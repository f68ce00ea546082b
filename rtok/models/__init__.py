"""Backbones: their names, how their weights are read, and how tokens enter them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone
    from rtok.models.loading import load_backbone

__all__ = ["Backbone", "load_backbone"]


def __getattr__(name: str) -> Any:
    """Import torch and timm only when a backbone is asked for."""
    if name == "Backbone":
        from rtok.models.backbone import Backbone

        return Backbone
    if name == "load_backbone":
        from rtok.models.loading import load_backbone

        return load_backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
