"""Which attacks are run against whom: from the config's attacks, threats and victims to the trials of the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from rtok.attacks.base import build
from rtok.attacks.stored import AdversarialSet
from rtok.config.attack import AttackConfig, read_attack
from rtok.errors import UserError
from rtok.evaluation import threats
from rtok.evaluation.bench import Bench, open_backbone
from rtok.evaluation.guessed import GuessedTokens
from rtok.evaluation.loop import Attempt, Trial
from rtok.evaluation.task import Task
from rtok.evaluation.threats import Craft, ModelOf
from rtok.evaluation.victims import Victim
from rtok.tokens import RobustnessTokens

if TYPE_CHECKING:
    from rtok.attacks.objective import Model
    from rtok.models.backbone import Backbone


@dataclass(frozen=True)
class ChosenSurrogate:
    """What `transfer` crafts on: its name, and its backbone and tokens; None for the plain victim itself."""

    name: str
    backbone: Backbone | None = None
    tokens: Tensor | None = None

    def models(
        self, model: Callable[[Backbone, Tensor | None], Model], target: Literal["plain", "victim"]
    ) -> tuple[Model, Model] | None:
        """The model that is attacked and the one whose clean output is left behind (`attack.target`)."""
        if self.backbone is None:
            return None
        attacked = model(self.backbone, self.tokens)
        own = self.tokens is None or target == "victim"
        return attacked, attacked if own else model(self.backbone, None)


@dataclass
class Planner:
    """Plans trials; crafting for the same attack on the same model is planned once."""

    bench: Bench
    task: Task
    surrogate: ChosenSurrogate
    plain: Victim
    control: Sequence[Victim] = ()
    robust: Sequence[Victim] = ()
    guessed: GuessedTokens | None = None
    _transfers: dict[str, Attempt] = field(default_factory=dict)

    def trials(self) -> list[Trial]:
        """Every attack under every threat, then the curve."""
        config = self.bench.config
        found = []
        for attack in config.attacks:
            found += [self._stored(attack)] if attack.stored else self.of_attack(attack)
        for radius in config.curve or ():
            at_radius = self.of_attack(config.attacks[0].at_radius(radius))
            found += [replace(trial, part="curve", name=config.attacks[0].label) for trial in at_radius]
        return found

    def of_attack(self, attack: AttackConfig) -> list[Trial]:
        """One attack under every threat of the config."""
        found = []
        for threat in self.bench.config.threats:
            found += self._by_queries(attack) if threat == "query" else self.crafted(threat, attack)
        return found

    def crafted(self, threat: str, attack: AttackConfig) -> list[Trial]:
        """One attack under one threat that crafts by gradients: a trial for each model that it crafts on."""
        members = self._members(threat, attack)
        # Members are planned alike: the same victims, the same surrogates, but for the depth that they attack. What
        # tells whether a surrogate was fooled is its output, at whatever depth it is attacked.
        plans = [self._crafts(threat, member) for member in members]
        first = members[0]
        whole = (
            plans[0] if first.depth == 1 else self._crafts(threat, first.model_copy(update={"layer": 1.0}))
        )
        found = []
        for tried, *crafts in zip(whole, *plans, strict=True):
            attempts = [
                attempt
                for member, craft in zip(members, crafts, strict=True)
                for attempt in self._attempts(member, craft)
            ]
            found.append(self._trial(attack, tried, attempts))
        return found

    def _by_queries(self, attack: AttackConfig) -> list[Trial]:
        query = self.bench.config.query
        found = []
        for craft in threats.query(
            self.plain, self.robust, self.task.model, name=self.bench.config.model.name
        ):
            for queries in query.queries:
                settings = attack.by_queries(queries)
                algorithm = build(settings)
                for start in query.starts:
                    warm = self._transfer(attack.members[0]) if start == "transfer" else None
                    attempt = Attempt(settings, algorithm, craft.surrogate, craft.targets[0], start=warm)
                    trial = self._trial(attack, craft, [attempt])
                    found.append(replace(trial, settings=settings, start=start))
        return found

    def _members(self, threat: str, attack: AttackConfig) -> list[AttackConfig]:
        """An attack's members without repetition: under some threats two of them come to the same."""
        found: list[AttackConfig] = []
        for member in attack.members:
            changes: dict[str, object] = {}
            if self.task.objective == "features":
                changes["loss"] = "cross-entropy"  # a loss of labels
            if threat == "transfer" and member.warm:
                changes["init"] = "uniform"  # its own start
            member = member.model_copy(update=changes)
            if member not in found:
                found.append(member)
        return found

    def _crafts(self, threat: str, member: AttackConfig) -> list[Craft]:
        config, plain, robust = self.bench.config, self.plain, self.robust
        name, model_of = config.model.name, self._model_of(member)
        if threat == "transfer":
            pair = self.surrogate.models(self._surrogate_of(member), member.target)
            everyone = [plain, *self.control, *robust]
            return threats.transfer(plain, everyone, model_of, name=self.surrogate.name, surrogate=pair)
        if threat == "informed":
            options = config.informed.model_dump()
            return threats.informed(plain, robust, model_of, name=name, seed=config.seed, **options)
        if threat == "guessed":
            assert self.guessed is not None
            return threats.guessed(plain, robust, model_of, name=name, guesses=self.guessed.victims)
        several = self.task.several_targets
        return threats.adaptive(plain, robust, model_of, name=name, several_targets=several)

    def _attempts(self, member: AttackConfig, craft: Craft) -> list[Attempt]:
        if craft.threat == "transfer":
            return [self._transfer(member)]
        start = self._transfer(member) if member.warm else None
        attack, hidden = build(member), member.depth < 1
        return [Attempt(member, attack, craft.surrogate, target, hidden, start) for target in craft.targets]

    def _transfer(self, member: AttackConfig) -> Attempt:
        """The attack on the public model; the same object each time, so that it is run once."""
        if member.warm:
            member = member.model_copy(update={"init": "uniform"})
        name = member.model_dump_json()
        if name not in self._transfers:
            (craft,) = self._crafts("transfer", member)
            attack = build(member)
            self._transfers[name] = Attempt(
                member, attack, craft.surrogate, craft.targets[0], member.depth < 1
            )
        return self._transfers[name]

    def _model_of(self, member: AttackConfig) -> ModelOf:
        if member.depth == 1:
            return self.task.model
        return lambda victim: self.task.hidden(self.bench.backbone, victim.tokens, member.depth)

    def _surrogate_of(self, member: AttackConfig) -> Callable[[Backbone, Tensor | None], Model]:
        if member.depth == 1:
            return self.task.surrogate
        return lambda backbone, tokens: self.task.hidden(backbone, tokens, member.depth)

    def _trial(self, attack: AttackConfig, craft: Craft, attempts: Sequence[Attempt]) -> Trial:
        radius = pixel_radius(attack, self.bench.backbone)
        return Trial(
            attack.label, attack, craft.threat, craft.name, attempts, craft.victims, craft.probe, radius
        )

    def _stored(self, attack: AttackConfig) -> Trial:
        """Try every victim on a set from disk; whether its surrogate was fooled is known of the plain victim."""
        assert attack.stored is not None
        stored = AdversarialSet.open(attack.stored)
        stored.check(self.bench.backbone, self.bench.source.keys)
        settings = read_attack(stored.made.attack)
        same = stored.made.objective == self.task.objective
        everyone = [self.plain, *self.control, *self.robust]
        surrogate = stored.made.surrogate
        (craft,) = threats.transfer(self.plain, everyone, self.task.model, name=surrogate)
        attempt = Attempt(settings, stored, craft.surrogate, craft.targets[0])
        return replace(
            self._trial(settings, craft, [attempt]),
            name=settings.label if same else f"{settings.label} on {stored.made.objective}",
            probe=craft.probe if stored.surrogate_is_plain(self.bench.config) else None,
        )


def pixel_radius(attack: AttackConfig, backbone: Backbone) -> float:
    """The attack's radius in pixels of [0, 1]: 8/255 in normalised space is about 1.8/255 with ImageNet's std."""
    return attack.eps * (float(backbone.std.mean()) if attack.units == "normalized" else 1.0)


def open_surrogate(bench: Bench) -> ChosenSurrogate:
    """Load the surrogate that the config names."""
    chosen, model = bench.config.surrogate, bench.config.surrogate_model
    same = model == bench.config.model
    if same and chosen.tokens is None and chosen.head == "same":
        return ChosenSurrogate(model.name)
    backbone = bench.backbone if same else open_backbone(model, bench.compute)
    if backbone.image_size != bench.backbone.image_size:
        raise UserError(
            f"surrogate.model.image_size is {model.height} x {model.width}, but the victim sees images of "
            f"{bench.config.model.height} x {bench.config.model.width}: both must see the same images."
        )
    if chosen.tokens is None:
        return ChosenSurrogate(model.name, backbone)
    tokens = RobustnessTokens.load(chosen.tokens)
    tokens.check(backbone, chosen.tokens)
    values = tokens.values.to(bench.compute.device)
    return ChosenSurrogate(f"{model.name} + {chosen.tokens}", backbone, values)
