"""The facts about a backbone that are known without importing torch or timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rtok.models.naming.rules import Naming


@dataclass(frozen=True)
class Resampling:
    """How a family resizes its trained grid of positions (always bicubic).

    With `offset` 0 the new size is given; otherwise the factor (new + offset) / old, as for DINOv2's models without
    registers. The default is timm's way.
    """

    offset: float = 0.0
    antialias: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A backbone with a name.

    `timm_name` includes the tag of the pretrained weights. `dim` is the width D of a token, `native_size` the image
    size in pixels of the trained position grid, `params` the number of parameters in millions. `kind` is `tokens` for
    features (B, 1+P, D) or `embedding` for a pooled and projected (B, E). `timm_kwargs` changes the architecture that
    timm builds. `build` makes a module of your own instead, which takes images in [0, 1] and gives the features.
    """

    name: str
    family: str = "custom"
    timm_name: str = ""
    patch_size: int
    dim: int
    native_size: int
    params: float = 0.0
    registers: int = 0
    kind: Literal["tokens", "embedding"] = "tokens"
    resampling: Resampling = Resampling()
    namings: tuple[Naming, ...] = ()
    timm_kwargs: Mapping[str, Any] = field(default_factory=dict)
    build: Callable[[], Any] | None = None
