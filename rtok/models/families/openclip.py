"""OpenCLIP image towers trained on LAION-2B (Cherti et al., 2023): pooled and projected embeddings."""

from __future__ import annotations

from rtok.models.naming import openclip
from rtok.models.naming.timm import TIMM
from rtok.models.spec import ModelSpec


def _spec(letter: str, word: str, patch_size: int, dim: int, params: float) -> ModelSpec:
    return ModelSpec(
        name=f"openclip_vit{letter}{patch_size}",
        family="openclip",
        timm_name=f"vit_{word}_patch{patch_size}_clip_224.laion2b",
        patch_size=patch_size,
        dim=dim,
        native_size=224,
        params=params,
        kind="embedding",
        namings=(openclip.OFFICIAL, TIMM),
    )


SPECS = (
    _spec("b", "base", 32, 768, 87.8),
    _spec("b", "base", 16, 768, 86.2),
    _spec("l", "large", 14, 1024, 304.0),
    _spec("h", "huge", 14, 1280, 632.1),
)
