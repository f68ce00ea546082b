"""The DINOv3 code base's format: `storage_tokens` holds the model's own registers, then the robustness tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rtok.conversion import official
from rtok.conversion.files import check_suffix, save_tensors
from rtok.conversion.model import RobustModel
from rtok.conversion.source import Source
from rtok.models.naming import dinov3 as naming
from rtok.models.naming.rules import Naming


class Dinov3:
    """A state dict for `DinoVisionTransformer(n_storage_tokens=...)`."""

    name = "dinov3"
    reader = official.READER

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that a conversion writes."""
        check_suffix(out)
        return [out]

    def image_size(self, source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size at which features are compared; the file works at every size."""
        official.check_family(source, "dinov3", self.name)
        official.refuse_image_size(wanted, self.name)
        return source.tokens.image_size or (source.spec.native_size, source.spec.native_size)

    def arrange(self, source: Source, image_size: tuple[int, int]) -> Source:
        """Rename the weights as in the code base, and add the constants that its files hold."""
        return official.in_naming(source, _naming(source), _constants(source))

    def write(self, model: RobustModel, path: Path) -> None:
        """Write the state dict."""
        save_tensors(model.with_tokens("storage_tokens"), path, model.metadata(self.name))

    def read(self, path: Path, model: RobustModel) -> Callable[[Tensor], Tensor]:
        """Load the state dict strictly into a model with that many registers."""
        return official.read_back(path, model, _naming(model.source))

    def usage(self, model: RobustModel, out: Path) -> str:
        """Return how to load the file."""
        return f"DinoVisionTransformer(n_storage_tokens={model.registers}, ...), strictly"


def is_gated(tensors: dict[str, Tensor]) -> bool:
    """Return whether the MLPs are gated."""
    return "blocks.0.mlp.fc1_g.weight" in tensors


def _naming(source: Source) -> Naming:
    return naming.official(swiglu=is_gated(source.weights.tensors))


def _constants(source: Source) -> dict[str, Tensor]:
    """Return the buffers that only this format has, and that strict loading in the code base requires."""
    side = source.spec.native_size
    vit = source.backbone((side, side)).vit
    constants = {"mask_token": official.mask_token(source), "rope_embed.periods": vit.rope.periods}
    if "blocks.0.attn.q_bias" in source.weights.tensors:
        # turns the keys' bias off
        mask = torch.cat([torch.ones(vit.embed_dim), torch.zeros(vit.embed_dim), torch.ones(vit.embed_dim)])
        constants.update({f"blocks.{i}.attn.qkv.bias_mask": mask for i in range(len(vit.blocks))})
    return constants
