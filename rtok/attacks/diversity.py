"""Input diversity (Xie et al., 2019): each step sees the image a little smaller and shifted, so that it transfers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.attacks.noise import generator
from rtok.attacks.objective import Step

# The smallest size, of the whole. The paper enlarges 299 px to 330, the same ratio; a ViT's input cannot grow.
SMALLEST = 0.9


@dataclass(frozen=True)
class Diversity:
    """Shrinks an image and pads it with black, with a chance; its noise derives from (seed, key, restart, step)."""

    chance: float
    keys: Sequence[str]
    seed: int

    def __call__(self, images: Tensor, part: slice, step: Step) -> Tensor:
        """What the model sees of the batch's images `part` (b, 3, H, W); differentiable."""
        seen = [
            self._one(image[None], generator(self.seed, key, "diversity", step.restart, step.index))
            for image, key in zip(images, self.keys[part], strict=True)
        ]
        return torch.cat(seen)

    def _one(self, image: Tensor, random: torch.Generator) -> Tensor:
        chance, size, top, left = torch.rand(4, generator=random).tolist()
        if chance >= self.chance:
            return image
        H, W = image.shape[2:]
        ratio = SMALLEST + (1 - SMALLEST) * size
        h, w = max(1, int(H * ratio)), max(1, int(W * ratio))
        small = F.interpolate(image, (h, w), mode="bilinear", align_corners=False)
        above, before = int(top * (H - h + 1)), int(left * (W - w + 1))
        return F.pad(small, (before, W - w - before, above, H - h - above))
