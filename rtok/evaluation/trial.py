"""A trial: an attack under a threat, the runs of it that are made, and the victims that they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rtok.attacks.base import Attack
from rtok.attacks.objective import Model, Surrogate
from rtok.evaluation.victims import Victim

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig


@dataclass(frozen=True, eq=False)
class AttackRun:
    """One run of an attack: its settings, its algorithm, the model it is crafted on, and what it pulls away from.

    Attributes:
        hidden: the surrogate and the target give the features of a block inside the backbone, not the task's output.
        start: a run on the public model whose result this one starts from.
        target_of: the victim whose output `target` is; None inside the backbone.
    """

    settings: AttackConfig
    attack: Attack
    surrogate: Surrogate
    target: Model
    hidden: bool = False
    start: AttackRun | None = None
    target_of: Victim | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """An attack under a threat, and the victims it is tried on: a row of the results for each victim.

    Attributes:
        part: the part of `results.json` that its rows belong to: `rows` or `curve`.
        threat, surrogate: what the attacker has, and the model they craft on, in words.
        runs: what the attacker tries; per image and victim the worst result counts.
        surrogate_model: the model whose success tells whether an image fooled its surrogate; None where that is not one
            fixed model.
        surrogate_of: the victim that it is the model of.
        eps_pixel: the radius in pixels of [0, 1]; for normalized units the mean over the channels.
        start: what a `query` attack starts from, or which images the attacker asked about; None for other threats.
        queries: what the surrogate cost in queries, where it did.
        contains: the threats whose attackers have nothing that this one lacks.
        weaker: the same attack under those; what they find for the same victims counts too.
    """

    name: str
    settings: AttackConfig
    threat: str
    surrogate: str
    runs: Sequence[AttackRun]
    victims: Sequence[Victim]
    surrogate_model: Model | None
    eps_pixel: float
    part: str = "rows"
    start: str | None = None
    queries: int | None = None
    contains: Sequence[str] = ()
    weaker: Sequence[Trial] = ()
    surrogate_of: Victim | None = None

    @property
    def candidates(self) -> list[Candidate]:
        """Every run that counts; the trial's own come first, and so win ties."""
        return [
            Candidate(trial.threat, run, [victim for victim in self.victims if victim in trial.victims])
            for trial in (self, *self.weaker)
            for run in trial.runs
        ]

    def identity(self, seed: int) -> dict[str, Any]:
        """The columns that say how a row's adversarial images were made."""
        return {
            **{"attack": self.name, "threat": self.threat, "surrogate": self.surrogate},
            **{key: getattr(self.settings, key) for key in ("norm", "eps", "units")},
            "eps_pixel": self.eps_pixel,
            **self.settings.counts,
            **({} if self.queries is None else {"queries": self.queries}),
            **{"start": self.start, "seed": seed},
        }


class Candidate(NamedTuple):
    """A run that counts in a trial: the threat it belongs to, and the victims that its images are for."""

    threat: str
    run: AttackRun
    victims: Sequence[Victim]
