"""The block loop of a timm ViT, and how something enters it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RunBlock = Callable[[int, Any, Tensor, "Tensor | None"], Tensor]


class Entry:
    """A way to enter a backbone's block loop; this one changes nothing.

    What an entry adds to the sequence stands at its end: the features are read before it. An entry keeps no state from
    one call to the next.
    """

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Change what enters block 0: the sequence (B, N, D) and its rotary table (P, 2 * head width) or None."""
        return sequence, rope

    def run_block(self, index: int, block: Any, sequence: Tensor, rope: Tensor | None) -> Tensor:
        """Run block `index` (from 0)."""
        return block(sequence) if rope is None else block(sequence, rope=rope)


@dataclass(frozen=True, eq=False)
class AppendedTokens(Entry):
    """Tokens (1, n, D) or (B, n, D) join the end of the sequence before block 0, without a position.

    In a plain ViT the place does not matter, since attention treats all positions alike. The tokens have no place in
    the image, so in a rotary table they get the identity rotation (sine 0, cosine 1).
    """

    values: Tensor

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Append the tokens."""
        extra = self.values.to(sequence).expand(sequence.shape[0], -1, -1)
        sequence = torch.cat([sequence, extra], dim=1)
        if rope is not None:
            count, width = extra.shape[1], rope.shape[-1] // 2
            identity = torch.cat([rope.new_zeros(count, width), rope.new_ones(count, width)], dim=-1)
            rope = torch.cat([rope, identity])
        return sequence, rope


NOTHING = Entry()


def embed(vit: Any, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return what enters block 0 of a timm model, (B, N, D), and its rotary table, (P, 2 * head width) or None.

    `images` are normalized, as timm's own `forward_features` takes them.
    """
    embedded = vit._pos_embed(vit.patch_embed(images))
    if isinstance(embedded, tuple):  # timm's `Eva`, which drops patches (in training, if at all) by itself
        sequence, rope = embedded
    else:
        sequence, rope = vit.patch_drop(embedded), None
    return vit.norm_pre(sequence), rope


def run_blocks(
    vit: Any,
    sequence: Tensor,
    rope: Tensor | None,
    entry: Entry,
    after: Sequence[int],
    run_block: RunBlock | None = None,
) -> list[Tensor]:
    """Return the whole sequence, with what `entry` added, after each block in `after` (from 0), in their order.

    Args:
        sequence, rope: what `embed` gives.
        run_block: runs a block instead of the entry's own method, which it has to call.
    """
    run = run_block or entry.run_block
    sequence, rope = entry.begin(sequence, rope)
    found: dict[int, Tensor] = {}
    for index, block in enumerate(vit.blocks[: max(after) + 1]):
        sequence = run(index, block, sequence, rope)
        if index in after:
            found[index] = sequence
    return [found[index] for index in after]
