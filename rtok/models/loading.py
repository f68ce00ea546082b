"""From a name to a frozen backbone with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Size, Tensor

from rtok.checkpoints import read_checkpoint, state_dict
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.registry import find
from rtok.models.resampling import resample_positions
from rtok.models.spec import ModelSpec
from rtok.models.weights import fit_weights

# What every upstream code base of the paper feeds every family: ImageNet's statistics.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_backbone(
    name: str | ModelSpec,
    *,
    weights: str | Path = "pretrained",
    image_size: int | tuple[int, int] = 224,
    normalization: str = "auto",
) -> Backbone:
    """Load a backbone for images of one size, frozen, in float32 on the CPU.

    Args:
        name: a name that `rtok models` lists, or `timm:NAME`.
        weights: `pretrained` (through timm, from the Hugging Face hub), or a local file in a naming of the
        family.
        image_size: pixels, one number or (height, width); multiples of the patch size.
        normalization: `auto` for the statistics these weights were trained with, `imagenet` to reproduce the
        paper.

    Raises:
        UserError: unknown name, a size that the patches do not divide, weights that are absent, unreadable or
        of
            another architecture.
    """
    spec = find(name) if isinstance(name, str) else name
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    _check_size(spec, size)
    vit = _build(spec, size)
    shapes = _native_shapes(vit, spec)
    if weights == "pretrained":
        state = _download(spec)
    else:
        path = Path(weights)
        state = fit_weights(
            state_dict(read_checkpoint(path), path), shapes, spec.namings, model=spec.name, path=path
        )
    vit.load_state_dict(_resample(state, vit, spec))
    mean, std = vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"]
    if normalization == "imagenet":
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return Backbone(vit, spec, mean=mean, std=std)


def _check_size(spec: ModelSpec, size: tuple[int, ...]) -> None:
    if any(side <= 0 or side % spec.patch_size for side in size):
        patch = spec.patch_size
        closest = " x ".join(str(max(patch, round(side / patch) * patch)) for side in size)
        raise UserError(
            f"The image size {' x '.join(map(str, size))} does not fit '{spec.name}': "
            f"its patches have {patch} pixels, so each side must be a multiple of {patch}. "
            f"The closest is {closest}."
        )


def _build(spec: ModelSpec, size: tuple[int, ...], *, pretrained: bool = False) -> Any:
    """Build timm's model. A fixed input size keeps positions and rotary tables constants of the model."""
    classes = {} if spec.kind == "embedding" else {"num_classes": 0}
    return timm.create_model(
        spec.timm_name,
        pretrained=pretrained,
        img_size=size,
        dynamic_img_size=False,
        **{**classes, **spec.timm_kwargs},
    )


def _download(spec: ModelSpec) -> dict[str, Tensor]:
    """Fetch the pretrained weights at their native size through timm."""
    try:
        return _build(spec, (spec.native_size, spec.native_size), pretrained=True).state_dict()
    except (
        Exception
    ) as error:  # the same model was built a moment ago: what fails here is the download, in many ways
        raise UserError(
            f"The pretrained weights of '{spec.name}' could not be downloaded from the Hugging Face hub "
            f"({type(error).__name__}). Without a connection, set `model.weights` to a local file "
            f"({', '.join(naming.name for naming in spec.namings)} naming; .pth, .pt or .safetensors)."
        ) from error


def _native_grid(spec: ModelSpec) -> tuple[int, int]:
    side = spec.native_size // spec.patch_size
    return side, side


def _position_prefix(vit: Any) -> int:
    return 0 if vit.no_embed_class else vit.num_prefix_tokens


def _native_shapes(vit: Any, spec: ModelSpec) -> dict[str, Size]:
    """Return the shape of every weight as files have it, before the position grid is resampled."""
    shapes = {name: tensor.shape for name, tensor in vit.state_dict().items()}
    if "pos_embed" in shapes:
        height, width = _native_grid(spec)
        shapes["pos_embed"] = torch.Size([1, _position_prefix(vit) + height * width, vit.embed_dim])
    return shapes


def _resample(state: dict[str, Tensor], vit: Any, spec: ModelSpec) -> dict[str, Tensor]:
    if "pos_embed" not in state:
        return state
    positions = resample_positions(
        state["pos_embed"],
        _native_grid(spec),
        tuple(vit.patch_embed.grid_size),
        spec.resampling,
        prefix=_position_prefix(vit),
    )
    return {**state, "pos_embed": positions}
