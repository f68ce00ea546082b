"""Head files in mmseg's format: DINOv2's published ones, and those that mmseg or rtok trained."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.checkpoints import read_checkpoint
from rtok.errors import UserError
from rtok.files import write_atomic
from rtok.heads.segmentation.models import BNHead, build_head

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone

_PREFIX = "decode_head."
_CONVOLUTION = ("conv_seg.weight", "conv_seg.bias")
_STATISTICS = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
_MULTI_SCALE = 4  # DINOv2's multi-scale head reads the last four blocks, the linear one the last


def last_blocks(backbone: Backbone, head: BNHead) -> tuple[int, ...]:
    """The blocks whose features the head reads: the last one, or the last four."""
    count = head.in_channels // backbone.dim
    return tuple(range(backbone.depth - count, backbone.depth))


def read_head(path: Path, backbone: Backbone, classes: int) -> BNHead:
    """Read a linear or multi-scale head for a backbone and a number of classes.

    Raises:
        UserError: unreadable, no linear head, without batch norm statistics, of another width or for other
            classes; the message has the numbers.
    """
    content = read_checkpoint(path)
    state = content.get("state_dict", content)
    tensors = {
        key.removeprefix(_PREFIX): value
        for key, value in (state.items() if isinstance(state, Mapping) else ())
        if key.startswith(_PREFIX) and isinstance(value, Tensor)
    }
    blocks = _check(tensors, path, backbone, classes)
    head = build_head(backbone.dim, blocks, classes)
    tensors.setdefault("bn.num_batches_tracked", torch.tensor(0))
    head.load_state_dict({key: value.float() for key, value in tensors.items()})
    return head


def save_head(path: Path, head: BNHead, about: Mapping[str, Any]) -> None:
    """Write a head as mmseg does: `state_dict` with `decode_head.*`, and `meta` with plain values."""
    state = {_PREFIX + name: tensor.detach().cpu() for name, tensor in head.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"meta": dict(about), "state_dict": state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def _check(tensors: Mapping[str, Tensor], path: Path, backbone: Backbone, classes: int) -> int:
    """Return how many blocks the head reads, or refuse it."""
    convolution, statistics = (
        ", ".join(_PREFIX + name for name in names if name not in tensors) for names in (_CONVOLUTION, _STATISTICS)
    )
    if convolution:
        raise UserError(
            f"head.path: {path} is no segmentation head: it lacks {convolution}. Give one that "
            "mmsegmentation or `rtok eval-seg` trained."
        )
    if statistics:
        raise UserError(
            f"head.path: {path} lacks the batch norm's {statistics}: give the whole head, as its training saved it."
        )
    others = [key for key in tensors if key not in (*_CONVOLUTION, *_STATISTICS, "bn.num_batches_tracked")]
    weight = tensors["conv_seg.weight"]
    if others or weight.ndim != 4 or weight.shape[2:] != (1, 1):
        why = f"it also holds {_PREFIX}{others[0]}" if others else f"its weight is {tuple(weight.shape)}"
        raise UserError(
            f"head.path: {path} is not DINOv2's linear head (batch norm, 1 x 1 convolution): {why}. Other "
            "heads are not supported."
        )
    found, width = weight.shape[:2]
    if width not in (backbone.dim, _MULTI_SCALE * backbone.dim):
        raise UserError(
            f"head.path: {path} is a head for features of width {width}, but {backbone.spec.name} has "
            f"{backbone.dim} (one block) or {_MULTI_SCALE * backbone.dim} (four blocks): give a head of this "
            "model."
        )
    if found != classes:
        raise UserError(
            f"head.path: {path} has {found} classes, but the data set has {classes}: give a head for its classes."
        )
    unclear = [name for name, tensor in tensors.items() if not tensor.float().isfinite().all()]
    if unclear:
        raise UserError(f"head.path: {path} holds NaN or infinity, in {_PREFIX}{unclear[0]}: give another head.")
    wrong = {"conv_seg.bias": found, **dict.fromkeys(_STATISTICS, width)}
    for name, size in wrong.items():
        if tensors[name].shape != (size,):
            raise UserError(
                f"head.path: {path} is damaged: {_PREFIX}{name} has the shape {tuple(tensors[name].shape)}, "
                f"not ({size},). Copy it again."
            )
    return width // backbone.dim
