"""What is under way inside a batch, in words, and how far the batch has come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

from rtok.activity import doing
from rtok.config.attack import AttackConfig
from rtok.results.rows import Identity, Naming
from rtok.results.words import of_255

if TYPE_CHECKING:
    from rtok.evaluation.trial import AttackRun, Trial


class Schedule:
    """The runs of a batch's attacks in their order: each lasts as long as in the last batch.

    Before the first batch has ended, its passes through the model count, as its settings say.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._texts = _texts(trials)
        self._weights = {run: _passes(run.settings) for run in self._texts}
        self._seconds: dict[AttackRun, float] = {}

    @contextmanager
    def at(self, run: AttackRun) -> Iterator[None]:
        """Tell whoever watches that this run is under way; one that is not of the batch has no name."""
        if run not in self._texts:
            yield
            return
        weights = self._seconds if len(self._seconds) == len(self._texts) else self._weights
        ends = dict(zip(self._texts, accumulate(weights[one] for one in self._texts), strict=True))
        whole, began = sum(weights.values()), time.perf_counter()
        with doing(self._texts[run], (ends[run] - weights[run]) / whole, ends[run] / whole):
            yield
        self._seconds[run] = time.perf_counter() - began


def _texts(trials: Sequence[Trial]) -> dict[AttackRun, str]:
    """Every run once, in the order in which they begin, with what it is called."""
    victims = list(dict.fromkeys(victim for trial in trials for victim in trial.victims))
    naming = Naming.of([victim.identity() for victim in victims])
    attacks = {(trial.name, trial.part, trial.settings.eps) for trial in trials}
    found: dict[AttackRun, str] = {}
    for trial in (one for listed in trials for one in (listed, *listed.weaker)):
        words = [trial.name] if len(attacks) > 1 else []
        words += [of_255(trial.eps_pixel)] if trial.part == "curve" else []
        words.append(Identity.of(trial.identity(0)).threat_label)
        if len(trial.victims) == 1:
            (victim,) = trial.victims
            label = Identity.of(victim.identity()).victim_label(naming)
            words.append(label if victim.draw is None else f"{label} {victim.draw + 1}")
        for number, run in enumerate(trial.runs, start=1):
            several = [f"run {number}/{len(trial.runs)}"] if len(trial.runs) > 1 else []
            if run.start is not None:
                found.setdefault(run.start, ", ".join([*words, "its start"]))
            found.setdefault(run, ", ".join([*words, *several]))
    return found


def _passes(settings: AttackConfig) -> int:
    """About how many passes through the model an attack takes: a gradient is two."""
    counts = settings.counts
    gradients = (counts["steps"] or 0) * (counts["restarts"] or 1)
    return 2 * gradients + (counts["queries"] or 0) or 1
