"""A whole set of weights in place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from torch import Tensor

from rtok.errors import UserError, some
from rtok.models.altered import with_tensors
from rtok.models.entry import Entry, OwnModel
from rtok.models.resampling import resample_positions
from rtok.models.spec import Resampling

_POSITIONS = "pos_embed"


@dataclass(frozen=True, eq=False)
class OwnWeights(Entry):
    """The model runs with these weights; its own are left as they are.

    Attributes:
        tensors: by timm's names; positions at the size that they were trained at.
        resampling: how the family resizes positions.
    """

    tensors: Mapping[str, Tensor]
    resampling: Resampling

    def bind(self, vit: Any) -> Entry:
        """Return the model with these weights, in the type of its own; positions are resized here, once.

        Raises:
            UserError: they are of another architecture.
        """
        given, there = dict(self.tensors), vit.state_dict()
        if _POSITIONS in given and _POSITIONS in there:
            given[_POSITIONS] = self._resized(given[_POSITIONS], vit)
        # a classifier is not part of the features: a model may have one that the weights lack
        lacking = [name for name in there if name not in given and not name.startswith("head.")]
        others = [name for name, tensor in given.items() if name not in there or there[name].shape != tensor.shape]
        if lacking or others:
            raise UserError(f"The weights are of another architecture than the model: {some([*others, *lacking])}.")
        return OwnModel(with_tensors(vit, {name: tensor.to(there[name].dtype) for name, tensor in given.items()}))

    def _resized(self, positions: Tensor, vit: Any) -> Tensor:
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        side = isqrt(positions.shape[1] - prefix)  # grids are trained on squares
        if side**2 != positions.shape[1] - prefix:
            return positions
        return resample_positions(
            positions, (side, side), tuple(vit.patch_embed.grid_size), self.resampling, prefix=prefix
        )
