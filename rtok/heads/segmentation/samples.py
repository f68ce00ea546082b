"""The training samples of a head: an endless, seeded sequence of augmented crops."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from rtok.data.decoding import DecodeError
from rtok.errors import UserError
from rtok.heads.segmentation import engine
from rtok.seeding import image_seed

if TYPE_CHECKING:
    from rtok.data.masks import MaskedFiles


@dataclass
class Sample:
    """A crop as mmseg packs it. Errors travel as values: torch would wrap a raised one into a traceback."""

    packed: dict[str, Any] | None = None
    error: UserError | None = None


class TrainingSamples(Dataset[Sample]):
    """Position p is picture p of an endless sequence of permutations, augmented: a function of (seed, p).

    Args:
        transforms: mmseg's transforms, as configs.
        length: how many positions there are.
        start: positions before it were trained on before the run was interrupted; mmengine's loop still asks
            for them, to throw them away, and gets nothing.
        on_error: `skip` puts the next picture that can be decoded in the place of one that cannot.
    """

    def __init__(
        self,
        source: MaskedFiles,
        transforms: Sequence[dict[str, Any]],
        *,
        seed: int,
        length: int,
        start: int = 0,
        on_error: str = "stop",
    ) -> None:
        engine.start()
        from mmcv.transforms import Compose

        self.source = source
        self.pipeline = Compose(list(transforms))
        self.seed, self.length, self.start, self.on_error = seed, length, start, on_error

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Sample:
        if position < self.start:
            return Sample()
        try:
            return Sample(self._augmented(position))
        except UserError as error:
            return Sample(error=error)

    def _augmented(self, position: int) -> dict[str, Any]:
        count = len(self.source)
        visit, place = divmod(position, count)
        generator = torch.Generator().manual_seed(image_seed(self.seed, "", "permutation", visit))
        order = torch.randperm(count, generator=generator).tolist()
        for index in order[place:] + order[:place]:
            try:
                picture = self.source.read(index)
            except DecodeError:
                if self.on_error == "stop":
                    raise
                continue
            mask = self.source.read_mask(index)
            seed = image_seed(self.seed, self.source.keys[index], "fit", visit) % 2**32
            np.random.seed(seed)  # mmseg's transforms draw from the global generators
            random.seed(seed)
            image = np.asarray(picture)[:, :, ::-1].copy()
            shapes = {"img_shape": mask.shape, "ori_shape": mask.shape}
            packed: dict[str, Any] = self.pipeline(
                {"img": image, **shapes, "gt_seg_map": mask, "seg_fields": ["gt_seg_map"]}
            )
            return packed
        raise UserError(f"data: none of the {count} training images can be decoded.")
