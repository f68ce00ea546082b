"""A robust model as one graph of images alone: what the ONNX and torch.export formats trace."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from rtok.conversion.model import RobustModel
from rtok.defenses import Defense
from rtok.defenses.base import as_attribute
from rtok.models.backbone import Backbone
from rtok.models.entry import NOTHING


class Graph(nn.Module):
    """From images (B, 3, H, W) in [0, 1] to the class token (B, D) and patches (B, P, D), or to embeddings (B, E).

    Args:
        defense: what enters the blocks; None where it is in the weights, or nowhere.
        dtype: what the transformer computes in; images and outputs are float32, and so is the normalization.
    """

    def __init__(self, backbone: Backbone, defense: Defense | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = deepcopy(backbone).to(dtype)
        self.defense = defense
        self.names: list[str] = []
        for name, values in ({} if defense is None else defense.parameters()).items():
            self.names.append(name)
            self.register_buffer(as_attribute(name), values)
        self.eval()

    @classmethod
    def of(cls, model: RobustModel, dtype: torch.dtype) -> Graph:
        """Return the graph of a model to convert."""
        return cls(model.backbone, None if model.merged else model.source.defense, dtype)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the file has as outputs."""
        entry = NOTHING
        if self.defense is not None:
            entry = self.defense.replaced({name: getattr(self, as_attribute(name)) for name in self.names}).entry()
        features = self.backbone(images, entry)
        return (features,) if features.ndim == 2 else (features[:, 0], features[:, 1:])

    @property
    def example(self) -> tuple[Tensor]:
        """Arguments to trace with: a batch of one would become a constant."""
        return (torch.zeros(2, 3, *self.backbone.image_size),)

    @property
    def dynamic_shapes(self) -> dict[str, Any]:
        """What may change: the batch."""
        return {"images": {0: torch.export.Dim("batch")}}


def joined(outputs: Sequence[Tensor]) -> Tensor:
    """Return a graph's outputs as a backbone returns its features."""
    return outputs[0] if len(outputs) == 1 else torch.cat([outputs[0][:, None], outputs[1]], dim=1)
