"""Any module that gives features, as a frozen backbone: what is registered with `ModelSpec.build`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from rtok.checkpoints import read_checkpoint, state_dict
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.entry import NOTHING, Entry
from rtok.models.locations import local_file
from rtok.models.spec import ModelSpec


class ModuleBackbone(Backbone):
    """A frozen module whose inside is unknown: it is attacked and measured, but nothing enters its blocks.

    Defenses that need the blocks (tokens) refuse it; one of the user's own may wrap it in `Defense.model`.
    """

    takes_entries = False

    def __init__(self, module: nn.Module, spec: ModelSpec, image_size: tuple[int, int]) -> None:
        nn.Module.__init__(self)
        self.vit, self.spec, self.image_size = module, spec, image_size
        self.kind, self.dim, self.patch_size = spec.kind, spec.dim, spec.patch_size
        self.depth = 1
        self.grid = (image_size[0] // spec.patch_size, image_size[1] // spec.patch_size)
        self.num_registers = 0
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, 3, 1, 1), persistent=False)
        self.rope = self.positions = None
        self._halves = WeakKeyDictionary()
        self.requires_grad_(False)
        self.eval()

    def _forward(self, images: Tensor, entry: Entry) -> Tensor:
        if entry is not NOTHING:
            raise UserError(self.why_closed)
        dtype = next((p.dtype for p in self.vit.parameters()), torch.float32)
        features: Tensor = self.vit(images.to(dtype))
        return features.float()

    def intermediate(self, images: Tensor, blocks: Sequence[int], entry: Entry | Tensor | None = None) -> list[Tensor]:
        """Return the features for each of `blocks`: the whole module counts as one block."""
        return [self(images, entry)] * len(blocks)

    def largest_activations(self, images: Tensor, entry: Entry | Tensor | None = None) -> Tensor:
        """Return the largest absolute feature of every position, (B, 1, N)."""
        return self(images, entry).abs().amax(-1)[:, None]


def load_module(spec: ModelSpec, weights: str | Path, image_size: tuple[int, int]) -> ModuleBackbone:
    """Build a registered module, with the weights it comes with or those of a file.

    Raises:
        UserError: the file does not fit the module, or the module does not give what the spec says.
    """
    assert spec.build is not None
    module = spec.build()
    if weights != "pretrained":
        path = local_file(weights)
        tensors = state_dict(read_checkpoint(path), path)
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"'{weights}' does not fit '{spec.name}': {reason}") from error
    backbone = ModuleBackbone(module, spec, image_size)
    with torch.no_grad():
        shape = tuple(backbone(torch.zeros(1, 3, *image_size)).shape)
    backbone._seen = False  # zeros say nothing of the images to come
    patches = backbone.grid[0] * backbone.grid[1]
    wanted = (1, spec.dim) if spec.kind == "embedding" else (1, 1 + patches, spec.dim)
    if shape != wanted:
        what = "an embedding (B, D)" if spec.kind == "embedding" else "a class token and the patches (B, 1+P, D)"
        raise UserError(
            f"'{spec.name}' gives features of shape {shape} for one image of {image_size[0]} x {image_size[1]} "
            f"pixels, not {wanted}: it has to give {what}, as its ModelSpec says."
        )
    return backbone
