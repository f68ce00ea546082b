"""Models that a Python program has: backbones, and any module that maps images to logits or features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.module import ModuleBackbone
from rtok.models.registry import MODULE, find
from rtok.models.spec import ModelSpec


class Normalized(nn.Module):
    """A module that gets images less `mean`, over `std`: three numbers each, as its weights were trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Callable[[Tensor], Tensor], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's output on images (B, 3, H, W) in [0, 1]."""
        return self.model((images - self.mean.to(images)) / self.std.to(images))


def normalized(
    model: Callable[[Tensor], Tensor], mean: Sequence[float] | None, std: Sequence[float] | None
) -> Callable[[Tensor], Tensor]:
    """Return the model as a function of images in [0, 1]; one that normalizes them itself is returned as it is.

    Raises:
        UserError: one of the two is missing, not three numbers, or given for a backbone.
    """
    if mean is None and std is None:
        return model
    if isinstance(model, Backbone):
        raise UserError("mean and std are for modules: a backbone of rtok normalizes images itself.")
    if mean is None or std is None or (len(mean), len(std)) != (3, 3):
        raise UserError("mean and std belong together: give three numbers each, such as std=(0.229, 0.224, 0.225).")
    return Normalized(model, mean, std)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a module and those inside it into evaluation mode for a while: no dropout, and no statistics of the batch."""
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def as_backbone(model: nn.Module, size: tuple[int, int]) -> ModuleBackbone:
    """Return a frozen copy of a module, whose kind its output on one image of this (height, width) tells.

    Logits or embeddings are (B, K), features (B, 1+P, D) with the class token first and a square grid of patches.

    Raises:
        UserError: the output is none of these.
    """
    inner = model.model if isinstance(model, Normalized) else model
    name, model = f"{MODULE}{type(inner).__name__}", deepcopy(model).eval()
    device = next((values.device for values in model.parameters()), torch.device("cpu"))
    with torch.no_grad():
        shape = tuple(model(torch.zeros(1, 3, *size, device=device)).shape)
    if len(shape) == 2:
        spec = ModelSpec(name=name, patch_size=1, dim=shape[1], native_size=size[0], kind="embedding")
        return ModuleBackbone(model, spec, size)
    side = isqrt(max(shape[1] - 1, 0)) if len(shape) == 3 else 0
    if not side or side * side != shape[1] - 1 or size[0] % side or size[0] != size[1]:
        raise UserError(
            f"The module gives an output of shape {shape} for one image of {size[0]} x {size[1]} pixels; valid: logits "
            "or an embedding (B, K), or features (B, 1+P, D) of a square image, the class token first."
        )
    return ModuleBackbone(
        model, ModelSpec(name=name, patch_size=size[0] // side, dim=shape[2], native_size=size[0]), size
    )


def section_of(backbone: Backbone) -> dict[str, Any]:
    """Return the `model` section that stands for a backbone in a run's config."""
    name = backbone.spec.name
    try:
        known = find(name) == backbone.spec
    except UserError:
        known = False
    if not known:
        name = f"{MODULE}{name.removeprefix(MODULE)}"
        return {"name": name, "image_size": list(backbone.image_size)}
    return {"name": name, "image_size": list(backbone.image_size), **backbone.origin}
