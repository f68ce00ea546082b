"""The DINOv3 code base's format: `storage_tokens` holds the model's own registers, then the robustness tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rtok.conversion.model import RobustModel
from rtok.conversion.official import Official
from rtok.conversion.source import Source
from rtok.models.naming import dinov3 as naming
from rtok.models.naming.rules import Naming


class Dinov3(Official):
    """A state dict for `DinoVisionTransformer(n_storage_tokens=...)`."""

    name = "dinov3"
    registers = "storage_tokens"

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        return f"DinoVisionTransformer(n_storage_tokens={model.registers}, ...), strictly  # {model.input}"

    def naming(self, source: Source, *, registers: bool = False) -> Naming:
        """Return the code base's names."""
        return naming.official(swiglu=is_gated(source.weights.tensors))

    def constants(self, source: Source) -> dict[str, Tensor]:
        """Return the mask token, the rotary periods, and the constant that turns the keys' bias off."""
        vit = source.backbone(source.native_size).vit
        found = {**super().constants(source), "rope_embed.periods": vit.rope.periods}
        if "blocks.0.attn.q_bias" in source.weights.tensors:
            mask = torch.cat([torch.ones(vit.embed_dim), torch.zeros(vit.embed_dim), torch.ones(vit.embed_dim)])
            found.update({f"blocks.{i}.attn.qkv.bias_mask": mask for i in range(len(vit.blocks))})
        return found


def is_gated(tensors: dict[str, Tensor]) -> bool:
    """Return whether the MLPs are gated."""
    return "blocks.0.mlp.fc1_g.weight" in tensors
