"""What a training run keeps on disk so that it can be resumed exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rtok.errors import UserError
from rtok.runs import atomic_path


@dataclass
class TokenSet:
    """One set of tokens in training: a count and a seed, with an optimizer of its own.

    Attributes:
        name: how the set is told from the others of its run, and its token file's suffix; "" when it is alone.
        values: (1, n, D) float32, the only leaf with a gradient.
    """

    name: str
    count: int
    seed: int
    values: Tensor
    optimizer: torch.optim.Optimizer

    @property
    def file_name(self) -> str:
        """`rtokens.safetensors`, or with the set's name when a run trains several."""
        return f"rtokens-{self.name}.safetensors" if self.name else "rtokens.safetensors"


def save_state(path: Path, step: int, sets: Sequence[TokenSet]) -> None:
    """Write the tokens and optimizers after `step` steps."""
    state = {
        "step": step,
        "sets": {s.name: {"values": s.values.detach(), "optimizer": s.optimizer.state_dict()} for s in sets},
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, sets: Sequence[TokenSet]) -> int:
    """Restore the tokens and optimizers in place and return the number of steps done; 0 when nothing was saved yet.

    Raises:
        UserError: the file is damaged or holds other token sets.
    """
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["sets"]
        for s in sets:
            s.values.data.copy_(saved[s.name]["values"])
            s.optimizer.load_state_dict(saved[s.name]["optimizer"])
        return int(state["step"])
    except Exception as error:
        raise UserError(f"{path} cannot be resumed from ({error}): start again with --overwrite.") from error
