"""What a training run keeps on disk so that it can be resumed exactly."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rtok.defenses import Defense
from rtok.errors import UserError
from rtok.files import write_atomic


@dataclass
class Trainee:
    """One defense in training, with an optimizer of its own.

    Attributes:
        name: what tells it from the others of its run, and its file's suffix; "" when it is alone.
        count: the number of extra tokens, where the kind has them.
        defense: its parameters are the only leaves with a gradient.
    """

    name: str
    count: int | None
    seed: int
    defense: Defense
    optimizer: torch.optim.Optimizer

    @property
    def file_name(self) -> str:
        """`rtokens.safetensors` for tokens, with the name when a run trains several."""
        stem = self.defense.stem
        return f"{stem}-{self.name}.safetensors" if self.name else f"{stem}.safetensors"


def save_state(path: Path, step: int, trainees: Sequence[Trainee]) -> None:
    """Write the parameters and optimizers after `step` steps."""
    states = {
        t.name: {
            "parameters": {name: values.detach() for name, values in t.defense.parameters().items()},
            "optimizer": t.optimizer.state_dict(),
        }
        for t in trainees
    }
    state = {"step": step, "trainees": states}
    buffer = io.BytesIO()  # writing to a full disk, torch.save raises a RuntimeError that does not say so
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_state(path: Path, trainees: Sequence[Trainee]) -> int:
    """Restore the parameters and optimizers in place and return the number of steps done; 0 when nothing was saved yet.

    Raises:
        UserError: the file is damaged or holds other defenses.
    """
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["trainees"]
        for t in trainees:
            for name, values in t.defense.parameters().items():
                values.data.copy_(saved[t.name]["parameters"][name])
            t.optimizer.load_state_dict(saved[t.name]["optimizer"])
        return int(state["step"])
    except Exception as error:
        # Not torch's own words: they advise to read the file without weights_only.
        raise UserError(
            f"{path} cannot be resumed from: it is damaged or of another run. Start again with --overwrite."
        ) from error
