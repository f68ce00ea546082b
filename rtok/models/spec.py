"""What is known of a backbone before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rtok.models.naming.rules import Naming


@dataclass(frozen=True)
class Resampling:
    """How a family takes its trained position grid to another size (bicubic always).

    `offset` 0 asks for the new size itself; otherwise the factor is (new + offset) / old, as DINOv2's models
    without registers have it. The default is timm's way.
    """

    offset: float = 0.0
    antialias: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A backbone that can be named.

    `timm_name` carries the tag of the pretrained weights. `dim` is the width D of a token, `native_size` the
    image size in pixels of the trained position grid, `params` counts millions. `kind`: `tokens` for features
    (B, 1+P, D), `embedding` for a pooled and projected (B, E). `timm_kwargs` changes the architecture that
    timm builds. `build` makes a module of one's own instead, which takes images in [0, 1] and gives the features.
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
