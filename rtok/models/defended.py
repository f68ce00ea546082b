"""What heads, tasks and attacks ask of a model: features, whatever enters the backbone on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from rtok.models.backbone import Backbone
from rtok.models.entry import Entry


class Features(Protocol):
    """A pure function from images to features: a `Backbone`, or one with a defense inside (`Defended`)."""

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone, whose sizes and statistics hold for this model too."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (B, 1+P, D) or embeddings (B, E) of images (B, 3, H, W) in [0, 1]; float32."""
        ...

    def intermediate(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Return the final-norm features (B, 1+P, D) after each of these blocks (from 0)."""
        ...

    def largest_activations(self, images: Tensor) -> Tensor:
        """Return the largest absolute activation of every position after every block, (B, depth, N)."""
        ...


@dataclass(frozen=True, eq=False)
class Defended:
    """A backbone with an entry, as one function of the images."""

    backbone: Backbone
    entry: Entry

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of images (B, 3, H, W)."""
        features: Tensor = self.backbone(images, self.entry)
        return features

    def intermediate(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Return the features after some blocks."""
        return self.backbone.intermediate(images, blocks, self.entry)

    def largest_activations(self, images: Tensor) -> Tensor:
        """Return the largest activations, those of the entry's positions last."""
        return self.backbone.largest_activations(images, self.entry)
