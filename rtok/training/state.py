"""What a training run keeps on disk so that it can be resumed exactly."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rtok.defenses import Defense
from rtok.errors import UserError
from rtok.files import write_atomic


@dataclass
class Best:
    """The state of a defense with the highest white-box cosine in validation: after which step, and what it had."""

    step: int
    cosine_to_plain: float
    fidelity: float
    parameters: dict[str, Tensor]


@dataclass
class Trainee:
    """One defense in training, with an optimizer of its own.

    Attributes:
        name: what tells it from the others of its run, and its file's suffix; "" when it is alone.
        count: the number of extra tokens, where the kind has them.
        defense: its parameters are the only leaves with a gradient.
        average: the moving average of its parameters, where there is one.
        best: what validation found, where there is one.
    """

    name: str
    count: int | None
    seed: int
    defense: Defense
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None = None
    best: Best | None = None

    def follow(self, step: int, ema: float | None) -> None:
        """Move the average by one step; early steps move it more, so that it forgets where the training started."""
        if self.average is None or ema is None:
            return
        decay = min(ema, (1 + step) / (10 + step))  # as TensorFlow's ExponentialMovingAverage with `num_updates`
        for name, values in self.defense.parameters().items():
            self.average[name].lerp_(values.detach(), 1 - decay)

    @property
    def current(self) -> Defense:
        """The defense that would be saved now: the average, where there is one."""
        return self.defense if self.average is None else self.defense.replaced(self.average)

    @property
    def kept(self) -> Defense:
        """The defense that the training ends with: the best state, where there was a validation."""
        return self.current if self.best is None else self.defense.replaced(self.best.parameters)

    @property
    def file_name(self) -> str:
        """`rtokens.safetensors` for tokens, with the name when a run trains several."""
        stem = self.defense.stem
        return f"{stem}-{self.name}.safetensors" if self.name else f"{stem}.safetensors"


def save_state(path: Path, step: int, trainees: Sequence[Trainee]) -> None:
    """Write the parameters, optimizers, averages and best states after `step` steps."""
    states = {
        t.name: {
            "parameters": {name: values.detach() for name, values in t.defense.parameters().items()},
            "optimizer": t.optimizer.state_dict(),
            "average": t.average,
            "best": t.best and vars(t.best),
        }
        for t in trainees
    }
    state = {"step": step, "trainees": states}
    buffer = io.BytesIO()  # writing to a full disk, torch.save raises a RuntimeError that does not say so
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_state(path: Path, trainees: Sequence[Trainee]) -> int:
    """Restore what `save_state` wrote in place and return the number of steps done; 0 when nothing was saved yet.

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
            for name, values in (t.average or {}).items():
                values.copy_(saved[t.name]["average"][name])
            best = saved[t.name]["best"]
            t.best = best and Best(**{**best, "parameters": _like(t.defense, best["parameters"])})
        return int(state["step"])
    except Exception as error:
        # Not torch's own words: they advise to read the file without weights_only.
        raise UserError(
            f"{path} cannot be resumed from: it is damaged or of another run. Start again with --overwrite."
        ) from error


def _like(defense: Defense, saved: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: saved[name].to(values.device) for name, values in defense.parameters().items()}
