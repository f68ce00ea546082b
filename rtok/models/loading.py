"""Load a frozen backbone with its weights by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from rtok.checkpoints import read_checkpoint, state_dict
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.downloads import check_download
from rtok.models.locations import HUB, OnHub, fetch, local_file, present_file
from rtok.models.module import load_module
from rtok.models.naming.rules import Naming
from rtok.models.naming.timm import TIMM
from rtok.models.registry import find
from rtok.models.resampling import resample_positions
from rtok.models.spec import ModelSpec
from rtok.models.weights import fit_weights
from rtok.release import refuse_robust

# ImageNet's statistics, which the paper's code uses for every family.
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
        weights: `pretrained` (through timm, from the Hugging Face hub), or a file in a naming of the family: its path,
            `local-dir:PATH`, or `hf-hub:USER/REPO[:FILE]`.
        image_size: pixels, one number or (height, width); multiples of the patch size.
        normalization: `auto` for the statistics these weights were trained with, `imagenet` to reproduce the paper.

    Raises:
        UserError: unknown name, a size that is not a multiple of the patch size, or weights that are missing,
            unreadable or of another architecture.
    """
    backbone = _load(find(name) if isinstance(name, str) else name, weights, image_size, normalization)
    backbone.origin = {"weights": weights, "normalization": normalization}
    return backbone


def _load(spec: ModelSpec, weights: str | Path, image_size: int | tuple[int, int], normalization: str) -> Backbone:
    size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    check_size(spec, size)
    if spec.build is not None:
        return load_module(spec, weights, size)
    return build_backbone(spec, read_weights(spec, weights).tensors, image_size=size, normalization=normalization)


def outline_backbone(name: str, *, weights: str | Path, image_size: tuple[int, int], normalization: str) -> Backbone:
    """Return the backbone that `load_backbone` would, without its numbers (on the meta device): it computes nothing.

    A file is checked by its names and shapes alone; nothing is downloaded.

    Raises:
        UserError: as `load_backbone` does, but for what only the numbers can tell.
    """
    spec = find(name)
    check_size(spec, image_size)
    if spec.build is not None:
        return load_module(spec, weights, image_size)
    path = None if weights == "pretrained" else present_file(weights)
    if path is not None:
        content = read_checkpoint(path, shapes_only=True)
        refuse_robust(content, path)
        translate_weights(spec, state_dict(content, path), path)
    with torch.device("meta"):
        vit, native = (_build(spec, size) for size in (image_size, (spec.native_size, spec.native_size)))
    return _backbone(vit, spec, normalization, native.state_dict())


@dataclass(frozen=True)
class Weights:
    """A model's weights at their trained size, and what they were read from.

    Attributes:
        tensors: exactly the architecture's, under timm's names.
        source: the file's own tensors, including extras; the same as `tensors` if they were downloaded.
        naming: the naming of `source`.
    """

    tensors: dict[str, Tensor]
    source: dict[str, Tensor]
    naming: Naming


def read_weights(spec: ModelSpec, weights: str | Path = "pretrained") -> Weights:
    """Read a model's weights from a file, or download them.

    Raises:
        UserError: they are missing, unreadable, of another architecture, or have robustness tokens inside.
    """
    if weights == "pretrained":
        tensors = _download(spec)
        return Weights(tensors, tensors, TIMM)
    path = local_file(weights)
    return translate_weights(spec, read_plain(path), path)


def read_plain(path: Path) -> dict[str, Tensor]:
    """Read a file's weights as they are, or raise UserError if it has robustness tokens inside."""
    content = read_checkpoint(path)
    refuse_robust(content, path)
    return state_dict(content, path)


def translate_weights(spec: ModelSpec, source: dict[str, Tensor], path: Path) -> Weights:
    """Translate a state dict in any naming of the family; `path` is named in the UserError if they do not match."""
    with torch.device("meta"):  # only the names and shapes are needed
        vit = _build(spec, (spec.native_size, spec.native_size))
    shapes = {name: tensor.shape for name, tensor in vit.state_dict().items()}
    # float32 first, because some namings add tensors
    full = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in source.items()}
    tensors, naming = fit_weights(full, shapes, spec.namings, model=spec.name, path=path)
    _check_numbers(tensors, path)
    return Weights(tensors, source, naming)


def _check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights with NaN or infinity: every feature would be NaN, hours later."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UserError(f"'{path}' holds {name} as {tensor.dtype}; weights are floating-point numbers.")
        if not tensor.is_meta and not tensor.isfinite().all():  # names and shapes alone have no numbers
            raise UserError(f"'{path}' holds NaN or infinity, for example in {name}: give finite weights.")


def build_backbone(
    spec: ModelSpec, tensors: Mapping[str, Tensor], *, image_size: tuple[int, int], normalization: str = "auto"
) -> Backbone:
    """Build a frozen backbone from weights at their trained size under timm's names."""
    vit = _build(spec, image_size)
    vit.load_state_dict(_resample(tensors, vit, spec))
    return _backbone(vit, spec, normalization, tensors)


def _backbone(vit: Any, spec: ModelSpec, normalization: str, tensors: Mapping[str, Tensor]) -> Backbone:
    mean, std = vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"]
    if normalization == "imagenet":
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return Backbone(vit, spec, mean=mean, std=std, positions=tensors.get("pos_embed"))


def check_size(spec: ModelSpec, size: tuple[int, int]) -> None:
    """Raise a UserError, with the closest valid size, unless each side is a multiple of the patch size."""
    if any(side <= 0 or side % spec.patch_size for side in size):
        patch = spec.patch_size
        closest = " x ".join(str(max(patch, round(side / patch) * patch)) for side in size)
        raise UserError(
            f"The image size {' x '.join(map(str, size))} does not fit '{spec.name}': "
            f"each side must be a multiple of {patch}, its patch size. The closest is {closest}."
        )


def _build(spec: ModelSpec, size: tuple[int, ...], *, pretrained: bool = False) -> Any:
    """Build timm's model. With a fixed input size, positions and rotary tables are constants of the model."""
    kwargs = {**({} if spec.kind == "embedding" else {"num_classes": 0}), **spec.timm_kwargs}
    return timm.create_model(spec.timm_name, pretrained=pretrained, img_size=size, dynamic_img_size=False, **kwargs)


def _download(spec: ModelSpec) -> dict[str, Tensor]:
    """Download the pretrained weights at their native size through timm."""
    try:
        vit = _build(spec, (spec.native_size, spec.native_size), pretrained=True)
    except Exception as error:  # downloads fail in many ways
        raise UserError(
            f"The pretrained weights of '{spec.name}' could not be downloaded from the Hugging Face hub "
            f"({type(error).__name__}). {fetch(OnHub(hub_repository(spec)))} Any file in "
            f"{', '.join(naming.name for naming in spec.namings)} naming will do (.pth, .pt or .safetensors): "
            "--weights FILE, for `rtok convert` --backbone-weights FILE."
        ) from error
    check_download(vit.pretrained_cfg)
    return dict(vit.state_dict())


def hub_repository(spec: ModelSpec) -> str:
    """Return the repository of the hub that a model's pretrained weights come from."""
    if spec.timm_name.startswith(HUB):  # of the model `timm:hf-hub:USER/REPO`
        return spec.timm_name.removeprefix(HUB)
    settings = timm.models.get_pretrained_cfg(spec.timm_name)
    return str(settings and settings.hf_hub_id)


def _resample(state: Mapping[str, Tensor], vit: Any, spec: ModelSpec) -> Mapping[str, Tensor]:
    if "pos_embed" not in state:
        return state
    side, grid = spec.native_size // spec.patch_size, tuple(vit.patch_embed.grid_size)
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    positions = resample_positions(state["pos_embed"], (side, side), grid, spec.resampling, prefix=prefix)
    return {**state, "pos_embed": positions}
