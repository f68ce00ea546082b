"""Is the attack what it should be? Checks after Athalye et al. (2018) and Carlini et al. (2019), on a few images.

A defense can look robust because attacks on it fail for the wrong reason: gradients that vanish behind a rounding, too
few steps, a bug. Each check computes something that must hold if attacks work, and says whether it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from rtok.attacks.base import Context, build, craft
from rtok.attacks.noise import start_noise
from rtok.attacks.objective import FixedSurrogate, Objective, Step
from rtok.config.attack_methods import PGDConfig
from rtok.data.loader import Batch
from rtok.evaluation.loop import AttackRun, Evaluator
from rtok.evaluation.plan import pixel_radius
from rtok.evaluation.victims import Victim
from rtok.setup import Setup
from rtok.statistics import difference_interval

Check = dict[str, Any]
# How much of what the attack achieves (in its loss) a comparison may be off: PGD is not exactly monotone.
SLACK = 0.05
# A gradient this much smaller than the plain model's counts as vanished. A defense that really flattens the loss makes
# it a few times smaller; one that masks gradients makes it zero, or as good as.
VANISHED = 1e-3
# A gradient step is one pass forward and one backward, which costs about two more: so many queries cost as much.
QUERIES_A_STEP = 3
# On the plain model an unbounded attack must bring accuracies and IoU down to this.
BROKEN_SHARE = 0.1


def sanity(setup: Setup, evaluator: Evaluator, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return `{"verdict", "images", "checks"}`, or None where `sanity.images` is 0.

    Args:
        rows: the per-image rows of the evaluation; what they hold is compared without attacking again.
    """
    settings, source = setup.config.sanity, setup.source
    batch = setup.examples(source.keys[: settings.images]) if settings.images else None
    if batch is None:
        return None
    on_these = SanityChecks(evaluator, batch, *_attack(setup))
    checks = [on_these.unbounded()]
    for victim in evaluator.victims:
        if victim.role == "robust":
            about = {"defense": victim.file, "head_features": victim.head}
            checks += [{**check, **about} for check in on_these.of_victim(victim)]
    checks += adaptive_in_results(rows, evaluator.task.worst_by)
    sound = all(check["passed"] for check in checks)
    return {"verdict": "sound" if sound else "suspicious", "images": len(batch.keys), "checks": checks}


def _attack(setup: Setup) -> tuple[PGDConfig, float]:
    """The checks' attack, plain Linf PGD as strong as the config's first, and its radius in pixels."""
    crafted = [attack for attack in setup.config.attacks if isinstance(attack, PGDConfig)]
    first = crafted[0] if crafted else PGDConfig()
    radius = pixel_radius(first, setup.backbone) if first.norm == "linf" else PGDConfig().eps
    steps = min(first.steps, setup.config.sanity.steps)
    return PGDConfig(steps=steps, axis=first.axis, quantize="none"), radius


@dataclass
class SanityChecks:
    """Attacks on a few images, with other settings each time.

    Losses are the attack's objective, away from plain(clean): larger is stronger. All are means over the images.
    """

    evaluator: Evaluator
    batch: Batch
    attack: PGDConfig
    radius: float

    def unbounded(self) -> Check:
        """An attack that may change the plain model's image as it likes must break it."""
        plain, task = self.evaluator.victims[0], self.evaluator.task
        found = self._craft(plain, eps=1.0)
        worst = self.evaluator.worst_by(plain, self.batch, self.images, found)
        limit = BROKEN_SHARE if task.objective == "labels" else self._other_images()
        seen = f"{task.worst_by} {worst:.3f}, at most {limit:.3f} wanted"
        values = {task.worst_by: worst, "limit": limit}
        return _check("an unbounded radius breaks the plain model", worst <= limit, seen, values)

    def of_victim(self, victim: Victim) -> Iterator[Check]:
        """The checks of one robust victim, which share the strongest attack."""
        steps, objective = self.attack.steps, self._objective(victim)
        clean, full = self._mean(objective, self.images), self._strength(victim)
        slack = SLACK * abs(full - clean)

        few = sorted({1, max(1, steps // 3)} - {steps})
        by_steps = {count: self._strength(victim, steps=count) for count in few} | {steps: full}
        yield self._rising("more steps are stronger", by_steps, slack)

        larger = min(4 * self.radius, 1.0)
        by_radius = {0.0: clean, self.radius: full, larger: self._strength(victim, eps=larger)}
        named = {f"{radius * 255:.3g}/255": value for radius, value in by_radius.items()}
        yield self._rising("a larger radius is stronger", named, slack)

        yield self._gradients(objective)

        queries = QUERIES_A_STEP * steps
        settings = self.attack.model_copy(update={"eps": self.radius}).by_queries(queries)
        context = Context(self.batch.keys, seed=self.evaluator.seed)
        found = craft(build(settings), self.images, objective, context).loss
        yield self._weaker("random search of equal cost is weaker", float(found.mean()), full, slack)

        transfer = self._mean(objective, self._on_plain)
        yield self._weaker("transfer is not stronger than adaptive", transfer, full, slack)

    def _gradients(self, objective: Objective) -> Check:
        """Gradients on the way of an attack, beside those of the plain model."""
        noise = start_noise(
            "uniform", "linf", self.radius, self.images.shape, self.batch.keys, self.evaluator.seed, "sanity"
        )
        place = (self.images + noise.to(self.images)).clamp(0, 1)
        norms = [
            one.loss_and_gradient(place, Step(0, 0))[1].flatten(1).norm(dim=1)
            for one in (objective, self._objective(self.evaluator.victims[0]))
        ]
        ratio = float((norms[0] / norms[1]).nan_to_num(0.0, posinf=1.0).min())
        passed = ratio > VANISHED and bool(norms[0].isfinite().all())
        seen = f"smallest norm {ratio:.2g} of the plain model's, more than {VANISHED:g} wanted"
        return _check("gradients do not vanish", passed, seen, {"norm_ratio": ratio})

    def _rising(self, name: str, strengths: Mapping[Any, float], slack: float) -> Check:
        values = list(strengths.values())
        steady = all(after >= before - slack for before, after in itertools.pairwise(values))
        passed = steady and (len(values) == 1 or values[-1] > values[0])
        seen = "loss " + ", ".join(f"{value:.3f} ({key})" for key, value in strengths.items())
        return _check(name, passed, seen, {str(key): value for key, value in strengths.items()})

    def _weaker(self, name: str, other: float, full: float, slack: float) -> Check:
        seen = f"loss {other:.3f}, adaptive {full:.3f}"
        return _check(name, other <= full + slack, seen, {"loss": other, "adaptive": full})

    def _objective(self, victim: Victim) -> Objective:
        return self.evaluator.objective(self._run(victim), self.batch, self.images)

    def _run(self, victim: Victim, **changes: Any) -> AttackRun:
        settings = self.attack.model_copy(update={"eps": self.radius, **changes})
        models = self.evaluator.models
        return AttackRun(settings, build(settings), FixedSurrogate(models[victim]), models[self.evaluator.victims[0]])

    def _craft(self, victim: Victim, **changes: Any) -> Tensor:
        return self.evaluator.craft(self._run(victim, **changes), self.batch, self.images)

    def _strength(self, victim: Victim, **changes: Any) -> float:
        return self._mean(self._objective(victim), self._craft(victim, **changes))

    def _mean(self, objective: Objective, images: Tensor) -> float:
        return float(objective.loss(images, Step(0, 0)).mean())

    @cached_property
    def images(self) -> Tensor:
        """The clean images on the device."""
        return self.batch.images.to(self.evaluator.device)

    @cached_property
    def _on_plain(self) -> Tensor:
        """What a transfer attack makes of them."""
        return self._craft(self.evaluator.victims[0])

    def _other_images(self) -> float:
        """The features' mean cosine to those of another image: what has lost all likeness is no closer."""
        with torch.no_grad():
            features = self.evaluator.models[self.evaluator.victims[0]](self.images)
        others = features.roll(1, 0) if len(features) > 1 else -features
        return float(torch.cosine_similarity(features, others, dim=-1).mean())


def adaptive_in_results(rows: Sequence[Mapping[str, Any]], worst: str) -> list[Check]:
    """Per attack, defense and head: over all images, `adaptive` must not do less harm than `transfer`."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in rows:
        if row["victim"] == "robust" and row["threat"] in ("adaptive", "transfer"):
            who = tuple(row[key] for key in ("attack", "defense", "head_features"))
            found.setdefault(who, {}).setdefault(row["threat"], {})[row["image"]] = row
    checks = []
    for (attack, defense, head), by_threat in found.items():
        if len(by_threat) < 2:
            continue
        pairs = [(row, by_threat["transfer"][image]) for image, row in by_threat["adaptive"].items()]
        known = [(a, b) for a, b in pairs if a[worst] is not None and b[worst] is not None]
        if not known:
            continue
        adaptive, transfer = ([row[worst] for row in column] for column in zip(*known, strict=True))
        mean = fmean(adaptive) - fmean(transfer)
        low, _ = difference_interval(adaptive, transfer, [a["group"] for a, _ in known]) or (None, None)
        passed = mean <= 0 or (low is not None and low <= 0)
        seen = f"{worst} {mean:+.3f} against transfer, not above 0 wanted (beyond chance)"
        name = f"adaptive does no less harm than transfer ({attack}, all images)"
        check = _check(name, passed, seen, {"difference": mean, "low": low})
        checks.append({**check, "defense": defense, "head_features": head})
    return checks


def _check(name: str, passed: bool, seen: str, values: Mapping[str, float | None]) -> Check:
    return {"check": name, "passed": passed, "seen": seen, "values": values}
