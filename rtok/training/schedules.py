"""What changes over a training, as functions of the step alone, so that a resumed run goes on exactly.

Steps count from 1.
"""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtok.config.training import TrainConfig


def learning_rate(settings: TrainConfig, step: int) -> float:
    """Linear over `warmup_steps`, then constant or half a cosine (Loshchilov & Hutter, 2017, without restarts)."""
    lr = settings.lr * min(1.0, step / max(1, settings.warmup_steps))
    if settings.lr_schedule == "constant":
        return lr
    peak = max(1, settings.warmup_steps)  # the first step with the full rate
    return lr * (1 + cos(pi * max(0, step - peak) / (settings.total_steps + 1 - peak))) / 2


def radius(settings: TrainConfig, eps: float, step: int) -> float:
    """The radius of the attack: `eps_schedule.start` for a share `hold`, linear over a share `ramp`, then `eps`."""
    schedule = settings.eps_schedule
    if schedule is None:
        return eps
    rising = step - schedule.hold * settings.total_steps
    whole = schedule.ramp * settings.total_steps
    if rising <= 0:
        return schedule.start
    return eps if rising >= whole else schedule.start + (eps - schedule.start) * rising / whole
