"""What the attacker knows: which model an attack is crafted on, and whom it is tried on. One function per threat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from rtok.attacks.objective import Model, Step
from rtok.defenses import Defense
from rtok.evaluation.victims import Victim

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig
    from rtok.config.schema import Config

ModelOf = Callable[[Victim], Model]
Members = Callable[[Step], Sequence[tuple[float, Victim]]]


@dataclass(frozen=True)
class ThreatContext:
    """What a threat is made from.

    Attributes:
        plain, control, robust: the victims; the plain one has the public head.
        surrogate: what the config chose to craft on; the plain victim where it chose nothing else.
        guesses: the attacker's own defenses, as victims; they may be filled in later.
        copies: what an attacker fitted to each victim's answers; they may be filled in later.
        name, surrogate_name: the backbone and the surrogate in words, for the results.
        several_targets: whether an attack may pull away from several models' clean outputs.
    """

    config: Config
    plain: Victim
    surrogate: Victim
    control: Sequence[Victim] = ()
    robust: Sequence[Victim] = ()
    guesses: Sequence[Victim] = ()
    copies: Mapping[Victim, Victim] = field(default_factory=dict)
    surrogate_name: str = ""
    several_targets: bool = False

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.config.model.name

    @property
    def defended(self) -> tuple[Victim, ...]:
        """The victims with a defense: under every threat the control is attacked like the robust victims."""
        return (*self.control, *self.robust)

    @property
    def everyone(self) -> tuple[Victim, ...]:
        """All victims, the plain one first."""
        return (self.plain, *self.defended)


@dataclass(frozen=True)
class Scenario:
    """What a threat gives: the model to craft on and the victims to try the result on.

    Attributes:
        surrogate: the surrogate in words, for the results.
        crafted_on: the model attacked, or a function from the attack's step to weighted models.
        targets: the attack is run once for each, away from its output on the clean images; per image and victim the
            worst result counts.
        victims: whom the result is tried on.
        attack: replaces the attack of the config; None keeps it.
        start: what the attack starts from, in words for the results; `transfer` starts from the transfer attack.
        queries: what the surrogate cost in queries; those of the attack itself are told by its settings.
        contains: threats whose attackers have nothing that this one lacks, beside `transfer`, which every threat
            contains. What they find for the same victim counts too, where the run lists them.
    """

    surrogate: str
    crafted_on: Victim | Members
    targets: tuple[Victim, ...]
    victims: tuple[Victim, ...]
    attack: AttackConfig | None = None
    start: str | None = None
    queries: int | None = None
    contains: tuple[str, ...] = ()

    @property
    def fixed(self) -> Victim | None:
        """The model whose success tells whether an image fooled its surrogate; None where that changes."""
        return self.crafted_on if isinstance(self.crafted_on, Victim) else None


Threat = Callable[[ThreatContext, "AttackConfig"], "Iterator[Scenario]"]


@dataclass(frozen=True)
class BoundSurrogate:
    """A scenario's surrogate at one depth of the model: what an attack takes gradients of."""

    crafted_on: Victim | Members
    model_of: ModelOf
    _models: dict[Victim, Model] = field(default_factory=dict)

    def members(self, step: Step) -> Sequence[tuple[float, Model]]:
        """The models of this step as (weight, model) with weights that sum to 1."""
        if isinstance(self.crafted_on, Victim):
            return [(1.0, self._model(self.crafted_on))]
        return [(weight, self.model_of(victim)) for weight, victim in self.crafted_on(step) if weight]

    def _model(self, victim: Victim) -> Model:
        if victim not in self._models:
            self._models[victim] = self.model_of(victim)
        return self._models[victim]


def _with(context: ThreatContext, victim: Victim, how: str = "") -> str:
    """A surrogate with a defense of the victim's kind, in words: `dinov2_vits14 + drawn tokens`."""
    assert victim.defense is not None
    return " ".join(filter(None, [context.name, "+", how, victim.defense.noun]))


def transfer(context: ThreatContext, attack: AttackConfig) -> Iterator[Scenario]:
    """The attacker has the public model only; one adversarial image serves every victim."""
    surrogate = context.surrogate
    target = surrogate
    if surrogate.defense is not None and attack.target == "plain":
        target = Victim("surrogate", surrogate.features.backbone, head=surrogate.head)
    yield Scenario(context.surrogate_name, surrogate, (target,), context.everyone)


def informed(context: ThreatContext, attack: AttackConfig) -> Iterator[Scenario]:
    """The attacker knows the kind of defense, not its values: the plain model and fresh untrained twins at every step.

    The attacker has the public head: one that was fitted on robust features is as private as the defense. One
    adversarial image serves all victims of a kind. Defenses whose untrained twin is the plain model are left out: this
    attack on them would be `transfer`.
    """
    settings, groups = context.config.informed, dict[tuple[object, ...], list[Victim]]()
    for victim in context.defended:
        if victim.defense is not None and victim.defense.has_control:
            groups.setdefault(victim.defense.twin_key, []).append(victim)
    for victims in groups.values():
        assert victims[0].defense is not None
        twins = FreshTwins(
            context.plain, victims[0].defense, context.config.seed, settings.draws, settings.plain_weight
        )
        yield Scenario(_with(context, victims[0], "drawn"), twins, (context.plain,), tuple(victims))


@dataclass(frozen=True)
class FreshTwins:
    """The plain model and fresh untrained twins of a defense at every step.

    A twin depends on (seed, restart, step, its number) alone, so an image's result does not depend on its batch. An
    attack whose step asks for several draws gets as many times more twins.
    """

    plain: Victim
    defense: Defense
    seed: int
    draws: int = 1
    plain_weight: float = 0.5

    def __call__(self, step: Step) -> Sequence[tuple[float, Victim]]:
        """The plain model with its weight; the twins share the rest."""
        found, twins = [(self.plain_weight, self.plain)], self.draws * step.draws
        for number in range(twins):
            draw = ("informed", step.restart, step.index, *([number] if number else []))
            twin = self.plain.with_defense(self.defense.untrained(self.plain.features.backbone, self.seed, *draw))
            found.append(((1 - self.plain_weight) / twins, twin))
        return found


def guessed(context: ThreatContext, attack: AttackConfig) -> Iterator[Scenario]:
    """The attacker trained defenses of their own, and hopes that the private one is like them.

    One adversarial image serves every victim.
    """

    def members(step: Step) -> Sequence[tuple[float, Victim]]:
        return [(1 / len(context.guesses), guess) for guess in context.guesses]

    yield Scenario(
        f"{context.name} + own defenses", members, (context.plain,), context.defended, contains=("informed",)
    )


def extracted(context: ThreatContext, attack: AttackConfig) -> Iterator[Scenario]:
    """The attacker fitted a defense of the same kind to the deployed model's answers: white-box through this copy."""
    settings = context.config.extracted
    assert settings is not None
    queries, asked = settings.queries or settings.queries_per_image, "own images" if settings.queries else "each image"

    def copy_of(victim: Victim) -> Members:
        return lambda step: [(1.0, context.copies[victim])]

    for victim in context.defended:
        yield Scenario(
            _with(context, victim, "fitted"),
            copy_of(victim),
            (context.plain,),
            (victim,),
            start=asked,
            queries=queries,
            contains=("informed",),
        )


def adaptive(context: ThreatContext, attack: AttackConfig) -> Iterator[Scenario]:
    """The attacker has the defense: white-box on each defended victim, away from plain(clean) and victim(clean)."""
    weaker = ("informed", "guessed", "extracted", "query")
    for victim in context.defended:
        targets = (context.plain, victim) if context.several_targets else (victim,)
        yield Scenario(_with(context, victim), victim, targets, (victim,), contains=weaker)


def query(context: ThreatContext, attack: AttackConfig) -> Iterator[Scenario]:
    """The attacker sees the deployed model's scores only: a random search for each defended victim and budget."""
    settings, target = context.config.query, (context.plain,)
    for victim, queries, start in product(context.defended, settings.queries, settings.starts):
        square = attack.by_queries(queries)
        yield Scenario(f"{context.name}'s scores", victim, target, (victim,), attack=square, start=start)
