"""The one way in which tokens enter a ViT: at the end of the sequence, without a position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def embed(vit: Any, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return what enters block 0 of a timm model, (B, N, D), and its rotary table, (P, 2 * head width) or None.

    `images` are normalised, as timm's own `forward_features` takes them.
    """
    embedded = vit._pos_embed(vit.patch_embed(images))
    if isinstance(embedded, tuple):  # timm's `Eva`, which drops patches (in training, if at all) by itself
        sequence, rope = embedded
    else:
        sequence, rope = vit.patch_drop(embedded), None
    return vit.norm_pre(sequence), rope


def append_tokens(sequence: Tensor, rope: Tensor | None, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """Join tokens (1, n, D) or (B, n, D) to the end of a sequence (B, N, D), and their places to its rotary table.

    In a plain ViT the place does not matter, since attention treats all alike. Tokens stand nowhere in the
    image, so they get the identity rotation (sine 0, cosine 1).
    """
    extra = tokens.to(sequence.dtype).expand(sequence.shape[0], -1, -1)
    sequence = torch.cat([sequence, extra], dim=1)
    if rope is not None:
        count, width = extra.shape[1], rope.shape[-1] // 2
        identity = torch.cat([rope.new_zeros(count, width), rope.new_ones(count, width)], dim=-1)
        rope = torch.cat([rope, identity])
    return sequence, rope


def run_block(block: Any, sequence: Tensor, rope: Tensor | None) -> Tensor:
    """Run one block of a timm model."""
    return block(sequence) if rope is None else block(sequence, rope=rope)
