"""Which head a victim goes through."""

from __future__ import annotations

from typing import Any

from rtok.attacks.objective import Model
from rtok.evaluation.victims import Victim
from rtok.heads.store import ROBUST, HeadStore


def headed(heads: HeadStore[Any], victim: Victim) -> Model:
    """Return the victim with its head; a head that no file names is there once the store is prepared."""
    if victim.role == "surrogate":
        return heads.surrogate(victim.features)
    if victim.head == ROBUST:
        if victim.file is not None:
            return heads.robust(victim.file, victim.features)
        return heads.control(f"{victim.twin}-{victim.draw}", victim.features)
    return heads.plain(victim.features)
