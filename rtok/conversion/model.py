"""A backbone with its tokens, as one file will hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rtok.conversion.source import Source
from rtok.models.backbone import Backbone
from rtok.models.spec import ModelSpec
from rtok.release import describe, to_metadata

# The types that a file can store its numbers in.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class RobustModel:
    """What a format writes, and what it is compared with after it was read back.

    Attributes:
        source: the weights and tokens, rounded to `dtype` but in float32.
        backbone: built from them.
        fingerprint: that of the weights before rounding.
    """

    source: Source
    backbone: Backbone
    dtype: str
    fingerprint: str

    @property
    def registers(self) -> int:
        """How many registers the file has: the model's own, then the robustness tokens."""
        return self.backbone.num_registers + self.source.tokens.count

    def features(self, images: Tensor) -> Tensor:
        """The robust features of images (B, 3, H, W) in [0, 1], as `Backbone` returns them."""
        with torch.no_grad():
            return self.source.tokens.model(self.backbone)(images)

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as other libraries want them."""
        return (images - self.backbone.mean) / self.backbone.std

    def with_tokens(self, key: str) -> dict[str, Tensor]:
        """The tensors that the file stores, in its type; `key` (1, registers, D) ends in the tokens."""
        state = dict(self.source.weights.source)
        values = self.source.tokens.values
        state[key] = torch.cat([state[key].float(), values], dim=1) if key in state else values
        return {name: self.stored(tensor) for name, tensor in state.items()}

    def stored(self, tensor: Tensor) -> Tensor:
        """A tensor in the type of the file, when that loses nothing (rounding was done before)."""
        half = tensor.to(DTYPES[self.dtype]) if tensor.is_floating_point() else tensor
        return half.contiguous() if torch.equal(half.to(tensor.dtype), tensor) else tensor.contiguous()

    def metadata(self, target: str, **more: Any) -> dict[str, str]:
        """What the file says of itself."""
        return to_metadata(
            describe(
                self.source.tokens.metadata,
                target,
                backbone=self.source.spec.name,
                fingerprint=self.fingerprint,
                registers=self.backbone.num_registers,
                dtype=self.dtype,
                mean=self.backbone.mean.flatten().tolist(),
                std=self.backbone.std.flatten().tolist(),
                **more,
            )
        )


def with_registers(spec: ModelSpec, backbone: Backbone, count: int) -> ModelSpec:
    """Return the architecture with `count` registers in all and positions for patches alone."""
    from timm.models.eva import Eva

    key = "num_reg_tokens" if isinstance(backbone.vit, Eva) else "reg_tokens"
    kwargs = {**spec.timm_kwargs, key: count, "no_embed_class": True}
    return replace(spec, registers=count, timm_kwargs=kwargs)
