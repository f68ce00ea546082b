"""Which attacks are run against whom: from the config's attacks, threats and victims to the trials of the loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rtok.attacks.base import build
from rtok.attacks.stored import AdversarialSet
from rtok.config.attack import AttackConfig, read_attack
from rtok.config.threats import THREATS
from rtok.errors import UserError
from rtok.evaluation.task import Task
from rtok.evaluation.threats import BoundSurrogate, ModelOf, Scenario, ThreatContext, transfer
from rtok.evaluation.trial import AttackRun, Trial
from rtok.evaluation.victims import Victim, open_defense
from rtok.setup import Setup, open_backbone

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone


@dataclass
class Planner:
    """Plans trials; the attack on the public model is planned once for all that need it, and so run once.

    No threat is reported weaker than one that it contains (`Scenario.contains`): what that one's attack finds counts
    too. What `transfer` finds always does, since every attacker has the public model; other threats cost attacks of
    their own, so those count that the config lists.
    """

    setup: Setup
    task: Task
    context: ThreatContext
    _transfers: dict[str, AttackRun] = field(default_factory=dict)

    def trials(self) -> list[Trial]:
        """Every attack under every threat, then the curve."""
        config = self.setup.config
        found: list[Trial] = []
        for attack in config.attacks:
            found += [self._stored(attack.stored)] if attack.stored else self.of_attack(attack)
        for radius in config.curve or ():
            at_radius = self.of_attack(config.attacks[0].at_radius(radius))
            found += [replace(trial, part="curve", name=self._name(config.attacks[0])) for trial in at_radius]
        if not found:
            kinds = {victim.defense.kind for victim in self.context.robust if victim.defense is not None}
            raise UserError(
                f"threats: {', '.join(config.threats)} attacks no defense of the kind {' or '.join(sorted(kinds))}: "
                "its untrained twin is the plain model. Add transfer or adaptive."
            )
        return found

    def of_attack(self, attack: AttackConfig) -> list[Trial]:
        """One attack under every threat of the config."""
        listed = self.setup.config.threats
        trials = {threat: list(self.under(threat, attack)) for threat in dict.fromkeys(("transfer", *listed))}
        return [self._with_weaker(trial, trials) for threat in listed for trial in trials[threat]]

    def under(self, threat: str, attack: AttackConfig) -> Iterator[Trial]:
        """One attack under one threat, for itself: a trial for each model that it is crafted on."""
        public = [self._transfer(member) for member in self._members("transfer", attack)]
        for scenario in THREATS.find(threat).load()(self.context, attack):
            if threat == "transfer":
                yield self._trial(attack, threat, scenario, public)
                continue
            settings = scenario.attack or attack
            members = self._members(threat, settings)
            runs = [run for member in members for run in self._runs(scenario, member, public)]
            trial = self._trial(attack, threat, scenario, runs)
            yield replace(
                trial,
                settings=settings,
                start=scenario.start,
                queries=scenario.queries,
                contains=("transfer", *scenario.contains),
            )

    def _with_weaker(self, trial: Trial, planned: Mapping[str, Sequence[Trial]]) -> Trial:
        """A trial with those of the threats that it contains, as far as they are for one of its victims."""
        weaker = [weak for name in trial.contains for weak in planned.get(THREATS.find(name).name, ())]
        return replace(trial, weaker=[weak for weak in weaker if set(weak.victims) & set(trial.victims)])

    def _members(self, threat: str, attack: AttackConfig) -> list[AttackConfig]:
        """An attack's members without repetition: under some threats two of them come to the same."""
        found: list[AttackConfig] = []
        for member in attack.members:
            changes: dict[str, object] = {}
            if self.task.objective == "features" and "loss" in type(member).model_fields:
                changes["loss"] = "cross-entropy"  # a loss of labels
            if self.task.objective == "labels" and member.depth == 1:
                changes["features"] = "all"
            if threat == "transfer" and member.warm:
                changes["init"] = "uniform"  # its own start
            member = member.model_copy(update=changes)
            if member not in found:
                found.append(member)
        return found

    def _runs(self, scenario: Scenario, member: AttackConfig, public: Sequence[AttackRun]) -> list[AttackRun]:
        start = self._transfer(member) if member.warm else public[0] if scenario.start == "transfer" else None
        return self._bound(scenario, member, start)

    def _bound(self, scenario: Scenario, member: AttackConfig, start: AttackRun | None) -> list[AttackRun]:
        """Bind a scenario to the models that a member of an ensemble attacks, at its depth."""
        model_of, algorithm = self._model_of(member.depth), build(member)
        surrogate = BoundSurrogate(scenario.crafted_on, model_of)
        return [
            AttackRun(
                member,
                algorithm,
                surrogate,
                model_of(target),
                member.depth < 1,
                start,
                target if member.depth == 1 else None,
            )
            for target in scenario.targets
        ]

    def _transfer(self, member: AttackConfig) -> AttackRun:
        """The attack on the public model; the same object each time, so that it is run once."""
        if member.warm:
            member = member.model_copy(update={"init": "uniform"})
        name = member.model_dump_json()
        if name not in self._transfers:
            (scenario,) = transfer(self.context, member)
            (self._transfers[name],) = self._bound(scenario, member, None)
        return self._transfers[name]

    def _model_of(self, depth: float) -> ModelOf:
        """What is attacked of a victim: the task's output, or the features inside its backbone."""
        return self.task.model if depth == 1 else partial(self.task.hidden, depth=depth)

    def _trial(self, attack: AttackConfig, threat: str, scenario: Scenario, runs: Sequence[AttackRun]) -> Trial:
        fixed = scenario.fixed
        return Trial(
            self._name(attack),
            attack,
            threat,
            scenario.surrogate,
            runs,
            scenario.victims,
            None if fixed is None else self._model_of(1)(fixed),
            pixel_radius(attack, self.setup.backbone),
            surrogate_of=fixed,
        )

    def _name(self, attack: AttackConfig) -> str:
        labels = [other.label for other in self.setup.config.attacks]
        return attack.label if labels.count(attack.label) < 2 else attack.long_label

    def _stored(self, folder: Path) -> Trial:
        """Try every victim on a set from disk; whether its surrogate was fooled is known of the plain victim."""
        stored = AdversarialSet.open(folder)
        stored.check(self.setup.backbone, self.setup.source.keys)
        settings = read_attack(stored.made.attack)
        same = stored.made.objective == self.task.objective
        plain, model_of = self.context.plain, self._model_of(1)
        scenario = Scenario(stored.made.surrogate, plain, (plain,), self.context.everyone)
        run = AttackRun(settings, stored, BoundSurrogate(plain, model_of), model_of(plain), target_of=plain)
        trial = self._trial(settings, "transfer", scenario, [run])
        return replace(
            trial,
            name=settings.label if same else f"{settings.label} on {stored.made.objective}",
            surrogate_model=trial.surrogate_model if stored.surrogate_is_plain(self.setup.config) else None,
        )


def pixel_radius(attack: AttackConfig, backbone: Backbone) -> float:
    """The attack's radius in pixels of [0, 1]: 8/255 in normalized space is about 1.8/255 with ImageNet's std."""
    return attack.eps * (float(backbone.std.mean()) if attack.units == "normalized" else 1.0)


def open_surrogate(setup: Setup, plain: Victim) -> tuple[str, Victim]:
    """Load the surrogate that the config names; return it with its name.

    Raises:
        UserError: a file of it cannot be read or does not fit.
    """
    chosen, model = setup.config.surrogate, setup.config.surrogate_model
    same = model == setup.config.model
    if same and chosen.defense is None and chosen.head == "same":
        return model.name, plain
    backbone = setup.backbone if same else open_backbone(model, setup.compute)
    surrogate = Victim("surrogate", backbone, head=plain.head)
    if chosen.defense is None:
        return model.name, surrogate
    defense = open_defense(chosen.defense, backbone, check_weights=setup.config.check_weights)
    return f"{model.name} + {chosen.defense}", surrogate.with_defense(defense)
