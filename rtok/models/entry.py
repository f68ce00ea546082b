"""The block loop of a timm ViT, and how something enters it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rtok.errors import UserError

RunBlock = Callable[[int, Any, Tensor, "Tensor | None"], Tensor]


class Entry:
    """A way to enter a backbone's block loop; this one changes nothing.

    What an entry adds to the sequence stands at its end: the features are read before it. An entry keeps no state from
    one call to the next.

    Attributes:
        own: the model of timm that runs in place of the backbone's; None where that runs.
    """

    own: Any | None = None

    def bind(self, vit: Any) -> Entry:
        """Return the entry made ready for a model of timm: what it computes of the model, it computes here."""
        return self

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Change what enters block 0: the sequence (B, N, D) and its rotary table (P, 2 * head width) or None."""
        return sequence, rope

    def run_block(self, index: int, block: Any, sequence: Tensor, rope: Tensor | None) -> Tensor:
        """Run block `index` (from 0)."""
        return block(sequence) if rope is None else block(sequence, rope=rope)


@dataclass(frozen=True, eq=False)
class OwnModel(Entry):
    """Another model runs in place of the backbone's, and nothing enters it: a change of the weights, once bound."""

    own: Any


@dataclass(frozen=True, eq=False)
class AppendedTokens(Entry):
    """Tokens (1, n, D) or (B, n, D) join the end of the sequence before block 0, without a position.

    In a plain ViT the place does not matter, since attention treats all positions alike. The tokens have no place in
    the image, so in a rotary table they get the identity rotation (sine 0, cosine 1).
    """

    values: Tensor

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Append the tokens."""
        return appended(sequence, self.values), unturned(rope, self.values.shape[1])


@dataclass(frozen=True, eq=False)
class TokensInEveryBlock(Entry):
    """Tokens (L, n, D): n of their own join the end of the sequence in every block, and leave after it."""

    values: Tensor

    def bind(self, vit: Any) -> Entry:
        """Refuse a model of another depth, as a UserError."""
        if len(vit.blocks) != len(self.values):
            raise UserError(f"The tokens are for {len(self.values)} blocks, but the model has {len(vit.blocks)}.")
        return self

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Make room for the tokens in the rotary table, which is the same for all blocks."""
        return sequence, unturned(rope, self.values.shape[1])

    def run_block(self, index: int, block: Any, sequence: Tensor, rope: Tensor | None) -> Tensor:
        """Run a block with its tokens."""
        longer = appended(sequence, self.values[index : index + 1])
        return super().run_block(index, block, longer, rope)[:, : sequence.shape[1]]


def appended(sequence: Tensor, tokens: Tensor) -> Tensor:
    """Return a sequence (B, N, D) with tokens (1, n, D) or (B, n, D) at its end."""
    return torch.cat([sequence, tokens.to(sequence).expand(sequence.shape[0], -1, -1)], dim=1)


def unturned(rope: Tensor | None, count: int) -> Tensor | None:
    """Return a rotary table with the identity rotation for `count` more positions."""
    if rope is None:
        return None
    width = rope.shape[-1] // 2
    identity = torch.cat([rope.new_zeros(count, width), rope.new_ones(count, width)], dim=-1)
    return torch.cat([rope, identity])


NOTHING = Entry()


def as_entry(given: Entry | Tensor | None) -> Entry:
    """Return what a backbone was given as an entry: tokens (1, n, D) or (B, n, D) are short for `AppendedTokens`."""
    if isinstance(given, Tensor):
        return AppendedTokens(given)
    return NOTHING if given is None else given


def bound(entry: Entry, vit: Any) -> tuple[Any, Entry]:
    """Return the model that runs where a model of timm has this entry, and the entry made ready for it."""
    ready = entry.bind(vit)
    return (vit if ready.own is None else ready.own), ready


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
        vit, entry: what `bound` gives.
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
