"""The linear head, and the features that it reads from a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rtok.errors import UserError
from rtok.models.frozen import linear

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone
    from rtok.models.defended import Features


@dataclass(frozen=True)
class Layout:
    """The features that a head reads, in the order of DINOv2's linear evaluation.

    First the class tokens of the last `blocks` blocks, the earliest first and each after the final norm; then, with
    `average`, the mean of the last block's patch tokens. OpenCLIP's embedding (B, E) is read as it is.
    """

    blocks: int = 1
    average: bool = True

    def width(self, backbone: Backbone) -> int:
        """The number of features per image."""
        if backbone.kind == "embedding":
            return int(backbone.vit.num_classes)
        return (self.blocks + self.average) * backbone.dim

    def inputs(self, model: Features, images: Tensor) -> Tensor:
        """Return what the head reads of images (B, 3, H, W): (B, width), float32."""
        if model.backbone.kind == "embedding":
            return model(images)
        depth = model.backbone.depth
        features = model.intermediate(images, range(depth - self.blocks, depth))
        parts = [f[:, 0] for f in features]
        if self.average:
            parts.append(features[-1][:, 1:].mean(dim=1))
        return torch.cat(parts, dim=-1)

    def select(self, widest: Tensor) -> Tensor:
        """Select this layout's features from those of `WIDEST`, (B, 5 D)."""
        D = widest.shape[-1] // (WIDEST.blocks + 1)
        first, last = WIDEST.blocks - self.blocks, WIDEST.blocks + self.average
        return widest[..., first * D : last * D]


PROBE = Layout()  # the layout of DINOv2's one-block heads, on which probes are fitted
WIDEST = Layout(blocks=4, average=True)
LAYOUTS = (Layout(1, False), PROBE, Layout(4, False), WIDEST)


def layout_of(width: int, backbone: Backbone, where: str) -> Layout:
    """Return the layout that has this width; `where` names the head in the message.

    Raises:
        UserError: no layout of this backbone has this width; the message has those there are.
    """
    layouts = (PROBE,) if backbone.kind == "embedding" else LAYOUTS
    widths = {layout.width(backbone): layout for layout in layouts}
    if width not in widths:
        raise UserError(
            f"{where} is a head for features of width {width}, but {backbone.spec.name} gives "
            f"{' or '.join(map(str, widths))}: use the head of this backbone, or the backbone of this head."
        )
    return widths[width]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits from features: weight (K, width), bias (K,), float32 on the backbone's device."""

    weight: Tensor
    bias: Tensor
    layout: Layout = PROBE

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return self.weight.shape[0]

    def __call__(self, model: Features, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images (B, 3, H, W) in [0, 1]."""
        return self.on(self.layout.inputs(model, images))

    def on(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, K) of the layout's features (B, width)."""
        return linear(inputs, self.weight, self.bias)

    def to(self, device: torch.device) -> LinearHead:
        """Return the head on another device."""
        return LinearHead(self.weight.to(device), self.bias.to(device), self.layout)


def check_classes(head: LinearHead, classes: int, where: str) -> None:
    """Check that a head has as many classes as the data.

    Raises:
        UserError: it has not; the message has both numbers.
    """
    if head.classes != classes:
        raise UserError(
            f"{where} has {head.classes} classes, but the data has {classes}: use a head for the data's "
            "classes, or head: {type: fit}."
        )
