"""A backbone and its tokens, as they are stored in one file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rtok.conversion.source import Source
from rtok.models.backbone import Backbone
from rtok.models.spec import ModelSpec
from rtok.release import describe, to_metadata

# The types that numbers can be stored in.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class RobustModel:
    """What a format writes, and what the file is compared with once it is read back.

    Attributes:
        source: the weights and tokens in float32, rounded to what `dtype` can hold.
        backbone: built from them.
        fingerprint: the fingerprint of the weights before rounding.
        merged: whether the defense is in the weights already.
    """

    source: Source
    backbone: Backbone
    dtype: str
    fingerprint: str
    merged: bool = False

    @property
    def registers(self) -> int:
        """The number of registers in the file: the model's own and the robustness tokens."""
        return self.backbone.num_registers + self.source.count

    def features(self, images: Tensor) -> Tensor:
        """Return the robust features of images (B, 3, H, W) in [0, 1], in the shape that `Backbone` returns."""
        with torch.no_grad():
            model = self.backbone if self.merged else self.source.defense.model(self.backbone)
            return model(images)

    def normalize(self, images: Tensor) -> Tensor:
        """Return images in [0, 1] normalized, as other libraries expect them."""
        return (images - self.backbone.mean) / self.backbone.std

    @property
    def input(self) -> str:
        """How images in [0, 1] become the input of other libraries, in words."""
        mean, std = (", ".join(f"{v:g}" for v in t.flatten().tolist()) for t in (self.backbone.mean, self.backbone.std))
        return f"images in [0, 1], minus mean ({mean}), by std ({std})"

    @property
    def first_patch(self) -> int:
        """Where the patches begin in the sequence that other libraries return, after the class token and registers."""
        return 1 + self.registers

    def with_tokens(self, key: str) -> dict[str, Tensor]:
        """Return the tensors to store, in the type of the file; `key` (1, registers, D) ends with the tokens."""
        state = dict(self.source.weights.source)
        if self.source.tokens is not None:
            values = self.source.tokens.values
            state[key] = torch.cat([state[key].float(), values], dim=1) if key in state else values
        return {name: self.stored(tensor) for name, tensor in state.items()}

    def stored(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the type of the file if that is exact (weights are rounded already)."""
        half = tensor.to(DTYPES[self.dtype]) if tensor.is_floating_point() else tensor
        return half.contiguous() if torch.equal(half.to(tensor.dtype), tensor) else tensor.contiguous()

    def metadata(self, target: str, **more: Any) -> dict[str, str]:
        """Return the metadata of the file."""
        return to_metadata(
            describe(
                self.source.defense.metadata,
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
    """Return the architecture with `count` registers in total and positions only for patches."""
    from timm.models.eva import Eva

    key = "num_reg_tokens" if isinstance(backbone.vit, Eva) else "reg_tokens"
    kwargs = {**spec.timm_kwargs, key: count, "no_embed_class": True}
    return replace(spec, registers=count, timm_kwargs=kwargs)
