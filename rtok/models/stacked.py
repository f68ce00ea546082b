"""Several entries on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from rtok.models.entry import Entry, bound


@dataclass(frozen=True, eq=False)
class Stacked(Entry):
    """Entries that each find a model with those before them inside."""

    entries: Sequence[Entry]
    own: Any | None = None

    def bind(self, vit: Any) -> Entry:
        """Bind one after the other, each to the model that the one before it runs."""
        runs, ready = vit, list[Entry]()
        for entry in self.entries:
            runs, entry = bound(entry, runs)
            ready.append(entry)
        return replace(self, entries=ready, own=None if runs is vit else runs)

    def begin(self, sequence: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Begin each, in order."""
        for entry in self.entries:
            sequence, rope = entry.begin(sequence, rope)
        return sequence, rope

    def run_block(self, index: int, block: Any, sequence: Tensor, rope: Tensor | None) -> Tensor:
        """Run a block inside the first entry, that inside the second, and so on."""
        for entry in self.entries:
            block = _Inside(entry, index, block)
        return super().run_block(index, block, sequence, rope)


@dataclass(frozen=True, eq=False)
class _Inside:
    """A block as the next entry finds it."""

    entry: Entry
    index: int
    block: Any

    def __call__(self, sequence: Tensor, rope: Tensor | None = None) -> Tensor:
        return self.entry.run_block(self.index, self.block, sequence, rope)
