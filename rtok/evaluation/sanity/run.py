"""Is the attack what it should be? Checks after Athalye et al. (2018) and Carlini et al. (2019), on a few images.

A defense can look robust because attacks on it fail for the wrong reason: gradients that vanish behind a rounding, too
few steps, a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from rtok.config.attack import AttackConfig
from rtok.console import progress
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.plan import Planner
from rtok.evaluation.sanity.checks import Check, Checks
from rtok.evaluation.threats import ThreatContext
from rtok.evaluation.trial import Trial
from rtok.setup import Setup


def sanity(setup: Setup, evaluator: Evaluator) -> dict[str, Any] | None:
    """Check every configured attack that follows gradients, on the plain and on each robust victim.

    Returns:
        `{"verdict", "images", "checks"}`; None where `sanity.images` is 0 or there is nothing to check.
    """
    config = setup.config
    batch = setup.examples(_spread(setup)) if config.sanity.images else None
    attacks = [attack for attack in config.attacks if attack.follows_gradients and not attack.stored]
    if batch is None or not attacks:
        return None
    planned: list[tuple[str, Callable[[], Check]]] = []
    for attack in attacks:
        public = None
        for trial in _white_box(setup, evaluator, attack):
            of_trial = Checks(evaluator, trial, batch, config.sanity.queries, public)
            public = public or of_trial  # the plain model comes first
            planned += [(f"{name}, {trial.victims[0].role}", check) for name, check in of_trial.planned()]
    checks = []
    with progress("sanity", total=len(planned), unit="check") as bar:
        for name, check in planned:
            bar.begin(name)
            checks.append(check())
            bar.advance()
    sound = all(check["passed"] for check in checks)
    return {"verdict": "sound" if sound else "suspicious", "images": len(batch.keys), "checks": checks}


def _spread(setup: Setup) -> list[str]:
    """The images that are used: the first of each group, then the others."""
    source = setup.source
    kept = set(dict(zip(reversed(source.groups), reversed(source.keys), strict=True)).values())
    return sorted(source.keys, key=lambda key: key not in kept)[: setup.config.sanity.images]


def _white_box(setup: Setup, evaluator: Evaluator, attack: AttackConfig) -> Iterator[Trial]:
    """The attack as it is run on the plain victim and, white-box, on each robust one."""
    plain, task = evaluator.victims[0], evaluator.task
    robust = [victim for victim in evaluator.victims if victim.role == "robust"]
    context = ThreatContext(setup.config, plain, plain, robust=robust, several_targets=task.several_targets)
    planner = Planner(setup, task, context)
    for threat in ("transfer", "adaptive"):
        for trial in planner.under(threat, attack):
            yield replace(trial, victims=trial.victims[:1])
