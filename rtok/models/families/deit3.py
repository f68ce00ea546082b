"""DeiT-III, trained on ImageNet-1k (Touvron et al., 2022)."""

from __future__ import annotations

from rtok.models.naming import deit
from rtok.models.naming.timm import TIMM
from rtok.models.spec import ModelSpec


def _spec(word: str, patch_size: int, dim: int, params: float) -> ModelSpec:
    name = f"deit3_{word}_patch{patch_size}_224"
    return ModelSpec(
        name=name,
        family="deit3",
        timm_name=f"{name}.fb_in1k",
        patch_size=patch_size,
        dim=dim,
        native_size=224,
        params=params,
        namings=(deit.OFFICIAL, TIMM),
    )


SPECS = (
    _spec("small", 16, 384, 21.7),
    _spec("base", 16, 768, 85.8),
    _spec("large", 16, 1024, 303.3),
    _spec("huge", 14, 1280, 630.8),
)
