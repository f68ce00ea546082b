"""The arithmetic between a file's tensors and timm's, each step with its inverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """`read` turns a file's tensors into timm's; `write` turns timm's into `count` tensors of a file."""

    read: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    write: Callable[[Sequence[Tensor], int], Sequence[Tensor]]


def _read_masked_key_bias(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    query, _masked, value = tensors[0].chunk(3)
    return query, value


def _write_masked_key_bias(tensors: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    query, value = tensors
    return [torch.cat([query, torch.zeros_like(query), value])]


def _read_zero_qkv_bias(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    (weight,) = tensors
    return weight, weight.new_zeros(len(weight) // 3), weight.new_zeros(len(weight) // 3)


TRANSFORMS: dict[str, Transform] = {
    "same": Transform(lambda tensors: tensors, lambda tensors, count: tensors),
    # query, key and value (or the two halves of a gate) are one matrix in timm
    "concatenate": Transform(
        lambda tensors: [torch.cat(list(tensors))], lambda tensors, count: tensors[0].chunk(count)
    ),
    # (cls_token, pos_embed): timm's models with registers have no position for the class token, so it is added to the
    # token itself; writing it back as zero gives the same function
    "fold_class_position": Transform(
        lambda tensors: [tensors[0] + tensors[1][:, :1], tensors[1][:, 1:]],
        lambda tensors, count: [tensors[0], torch.cat([torch.zeros_like(tensors[0]), tensors[1]], dim=1)],
    ),
    "add_batch_axis": Transform(lambda tensors: [tensors[0][None]], lambda tensors, count: [tensors[0][0]]),
    "add_batch_and_token_axes": Transform(
        lambda tensors: [tensors[0][None, None]], lambda tensors, count: [tensors[0][0, 0]]
    ),
    # CLIP's projection is x @ P without a bias, timm's head is x @ W.T + b
    "projection": Transform(
        lambda tensors: [tensors[0].T, tensors[0].new_zeros(tensors[0].shape[1])], lambda tensors, count: [tensors[0].T]
    ),
    # DINOv3 masks the middle third of its qkv bias, so only the first and the last third have an effect
    "masked_key_bias": Transform(_read_masked_key_bias, _write_masked_key_bias),
    "zero_qkv_bias": Transform(_read_zero_qkv_bias, lambda tensors, count: [tensors[0]]),
}
