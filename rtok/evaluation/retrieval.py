"""A task without labels: does an image still find its own nearest neighbors among the clean images?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.console import progress

if TYPE_CHECKING:
    from rtok.setup import Setup

# Our choice: enough for a share, few enough that they are near in a data set of some hundred images.
NEIGHBORS = 5
# Copies of one image are equally near: the first in the data then counts as nearer, by less than features resolve.
_TIE = 1e-9


def descriptors(features: Tensor) -> Tensor:
    """The vector (b, E) that an image is found by, of length 1: its CLS token, or its embedding."""
    return F.normalize(features if features.ndim == 2 else features[:, 0], dim=-1)


@dataclass(frozen=True, eq=False)
class Gallery:
    """The plain model's descriptors of all clean images.

    Attributes:
        keys: the N images, in the order of the data.
        vectors: (N, E), of length 1.
    """

    keys: Sequence[str]
    vectors: Tensor

    @classmethod
    def of(cls, setup: Setup) -> Gallery:
        """Pass every clean image through the backbone, each process its share; all of them get the whole gallery."""
        compute, source = setup.compute, setup.source
        # Batches, since a row alone would be sent with the memory of all of its batch.
        found: list[tuple[Sequence[str], Tensor]] = []
        with progress("clean features", total=len(source), unit="image", enabled=compute.is_main) as bar:
            for batch in setup.batches():
                if batch.keys:
                    with torch.no_grad():
                        vectors = descriptors(setup.backbone(batch.on(compute.device)))
                    found.append((batch.keys, vectors.cpu()))
                bar.advance(len(batch) * compute.processes)
        gathered = compute.gather(found)
        keys = [key for part, _ in gathered for key in part]
        place = {key: number for number, key in enumerate(source.keys)}
        order = sorted(range(len(keys)), key=lambda i: place[keys[i]])
        vectors = torch.cat([part for _, part in gathered])[order] if order else torch.empty(0, 0)
        return cls([keys[i] for i in order], vectors.to(compute.device))

    @property
    def k(self) -> int:
        """How many neighbors an image has: 5, or half of the other images where they are fewer than 10."""
        return min(NEIGHBORS, max(0, len(self.keys) - 1) // 2)

    @property
    def chance(self) -> float | None:
        """The retrieval of a random order, k / (N - 1); None for fewer than three images."""
        return self.k / (len(self.keys) - 1) if self.k else None

    def retrieval(self, keys: Sequence[str], plain_clean: Tensor, features: Tensor) -> Tensor:
        """The share of each image's k nearest other images that its other features find, (b,) in [0, 1].

        The k nearest of an image are those by `plain_clean`; they are sought among the k nearest by `features`. The
        image itself is left out. NaN for fewer than three images.

        Args:
            keys: the b images.
            plain_clean, features: the model's outputs, (b, 1+P, D) or (b, E).
        """
        if not self.k:
            return features.new_full((len(keys),), torch.nan)
        own, found = (self._nearest(keys, output) for output in (plain_clean, features))
        return (own[:, :, None] == found[:, None, :]).any(2).float().mean(1)

    def _nearest(self, keys: Sequence[str], features: Tensor) -> Tensor:
        """The places (b, k) of the nearest other images by cosine similarity."""
        similarity = descriptors(features).to(self._exact) @ self._exact.T
        similarity -= _TIE * torch.arange(len(self.keys), device=similarity.device) / len(self.keys)
        similarity[range(len(keys)), [self._place[key] for key in keys]] = -torch.inf
        return similarity.topk(self.k).indices

    @cached_property
    def _exact(self) -> Tensor:
        """The vectors in float64, so that a product's last bits, which depend on the batch, are below a tie."""
        return self.vectors if self.vectors.device.type == "mps" else self.vectors.double()  # mps has no float64

    @cached_property
    def _place(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.keys)}
