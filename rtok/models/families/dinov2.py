"""DINOv2, with and without registers (Oquab et al., 2023; Darcet et al., 2024)."""

from __future__ import annotations

from rtok.models.naming import dinov2 as naming
from rtok.models.naming.timm import TIMM
from rtok.models.spec import ModelSpec, Resampling

# letter: (timm's word, token width, millions of parameters)
_SIZES = {
    "s": ("small", 384, 22.1),
    "b": ("base", 768, 86.6),
    "l": ("large", 1024, 304.4),
    "g": ("giant", 1536, 1136.5),
}


def _spec(letter: str, *, registers: int) -> ModelSpec:
    word, dim, params = _SIZES[letter]
    with_registers, swiglu = registers > 0, letter == "g"
    return ModelSpec(
        name=f"dinov2_vit{letter}14" + ("_reg" if with_registers else ""),
        family="dinov2",
        timm_name=f"vit_{word}_patch14{f'_reg{registers}' if with_registers else ''}_dinov2.lvd142m",
        patch_size=14,
        dim=dim,
        native_size=518,
        params=params,
        registers=registers,
        # DINOv2's own settings: `interpolate_offset` 0.1 without antialias; 0 with antialias for registers.
        resampling=Resampling() if with_registers else Resampling(offset=0.1, antialias=False),
        namings=(
            naming.official(registers=with_registers, swiglu=swiglu),
            naming.transformers(registers=with_registers, swiglu=swiglu),
            TIMM,
        ),
    )


SPECS = tuple(_spec(letter, registers=registers) for registers in (0, 4) for letter in _SIZES)
