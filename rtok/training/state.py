"""What a training run keeps on disk so that it can be resumed exactly."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rtok.errors import UserError
from rtok.files import write_atomic


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


def digest_of(keys: Sequence[str]) -> str:
    """A short hash of the images' identities: with other images, training would see another sequence."""
    return hashlib.sha256("\0".join(keys).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def save_state(path: Path, step: int, sets: Sequence[TokenSet], images: str) -> None:
    """Write the tokens and optimizers after `step` steps on the images of this digest."""
    state = {
        "step": step,
        "images": images,
        "sets": {s.name: {"values": s.values.detach(), "optimizer": s.optimizer.state_dict()} for s in sets},
    }
    buffer = io.BytesIO()  # writing to a full disk, torch.save raises a RuntimeError that does not say so
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_state(path: Path, sets: Sequence[TokenSet], images: str) -> int:
    """Restore the tokens and optimizers in place and return the number of steps done; 0 when nothing was saved yet.

    Raises:
        UserError: the file is damaged, holds other token sets, or was saved on other images.
    """
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["sets"]
        for s in sets:
            s.values.data.copy_(saved[s.name]["values"])
            s.optimizer.load_state_dict(saved[s.name]["optimizer"])
        step, before = int(state["step"]), state["images"]
    except Exception as error:
        # Not torch's own words: they advise to read the file without weights_only.
        raise UserError(
            f"{path} cannot be resumed from: it is damaged or of another run. Start again with --overwrite."
        ) from error
    if before != images:
        raise UserError(
            "data: there are other images than when this run began, so it would see another sequence of them: put back "
            "what was there, or start again with --overwrite."
        )
    return step
