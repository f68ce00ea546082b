"""DINOv3 (Siméoni et al., 2025): rotary positions and four registers."""

from __future__ import annotations

from rtok.models.naming import dinov3 as naming
from rtok.models.naming.timm import TIMM
from rtok.models.spec import ModelSpec


def _spec(letter: str, word: str, dim: int, params: float, *, swiglu: bool = False) -> ModelSpec:
    # timm's variant with qkv biases reads every file: Meta's biases are zero, but those of a fine-tuned model may not
    # be. The 7B model has none.
    variant = "" if letter == "7b" else "_qkvb"
    return ModelSpec(
        name=f"dinov3_vit{letter.replace('+', '')}16" + ("plus" if "+" in letter else ""),
        family="dinov3",
        timm_name=f"vit_{word}_patch16_dinov3{variant}.lvd1689m",
        patch_size=16,
        dim=dim,
        native_size=256,
        params=params,
        registers=4,
        namings=(
            naming.official(swiglu=swiglu),
            naming.transformers(swiglu=swiglu),
            TIMM,
            *((naming.TIMM_WITHOUT_BIAS,) if variant else ()),
        ),
    )


SPECS = (
    _spec("s", "small", 384, 21.6),
    _spec("s+", "small_plus", 384, 28.7, swiglu=True),
    _spec("b", "base", 768, 85.7),
    _spec("l", "large", 1024, 303.1),
    _spec("h+", "huge_plus", 1280, 840.6, swiglu=True),
    _spec("7b", "7b", 4096, 6716.0, swiglu=True),
)
