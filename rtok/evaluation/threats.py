"""What the attacker knows: which model an attack is crafted on, and whom it is tried on (DESIGN section 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rtok.attacks.objective import FixedSurrogate, Model, Step, Surrogate
from rtok.evaluation.victims import Victim, random_tokens

ModelOf = Callable[[Victim], Model]


@dataclass(frozen=True)
class Craft:
    """One crafting of adversarial images and the victims it is tried on.

    Attributes:
        name: the surrogate, in words, for the results.
        targets: the attack is run once for each of these models, away from its output on the clean images; per image
            and victim the worse result counts.
        probe: the model whose success tells whether an image fooled its surrogate; None when the surrogate changes.
    """

    threat: str
    name: str
    surrogate: Surrogate
    targets: tuple[Model, ...]
    victims: tuple[Victim, ...]
    probe: Model | None


@dataclass(frozen=True)
class InformedSurrogate:
    """The attacker knows that there are tokens, not which: the plain model and fresh random draws at every step.

    A draw depends on (seed, restart, step, its number) alone, so an image's result does not depend on its batch.

    Args:
        draws: how many draws a step; they share what `plain_weight` leaves.
        plain_weight: the weight of the plain model, in [0, 1].
    """

    plain: Model
    with_tokens: ModelOf
    count: int
    dim: int
    init_std: float
    seed: int
    like: Victim
    draws: int = 1
    plain_weight: float = 0.5

    def members(self, step: Step) -> Sequence[tuple[float, Model]]:
        """The plain model and the model with each of this step's untrained tokens; weights of zero are left out."""
        drawn = [(1 - self.plain_weight) / self.draws] * self.draws
        found = [(self.plain_weight, self.plain)]
        found += [(weight, self._drawn(step, number)) for number, weight in enumerate(drawn)]
        return [(weight, model) for weight, model in found if weight]

    def _drawn(self, step: Step, number: int) -> Model:
        assert self.like.tokens is not None
        parts = ("informed", step.restart, step.index, *([number] if number else []))
        tokens = random_tokens(self.count, self.dim, self.init_std, self.seed, *parts)
        return self.with_tokens(Victim("random", tokens.to(self.like.tokens), head=self.like.head))


@dataclass(frozen=True)
class GuessedSurrogate:
    """The model with each of the attacker's own tokens, equally weighted; `guesses` may be filled later."""

    guesses: Sequence[Victim]
    model_of: ModelOf

    def members(self, step: Step) -> Sequence[tuple[float, Model]]:
        """The same models at every step."""
        return [(1 / len(self.guesses), self.model_of(guess)) for guess in self.guesses]


def transfer(
    plain: Victim,
    victims: Sequence[Victim],
    model_of: ModelOf,
    *,
    name: str,
    surrogate: tuple[Model, Model] | None = None,
) -> list[Craft]:
    """The attacker has the public model only; one adversarial image serves every victim.

    Args:
        surrogate: another (attacked, target) pair of models instead of the plain victim's.
    """
    attacked, target = surrogate or (model_of(plain), model_of(plain))
    return [Craft("transfer", name, FixedSurrogate(attacked), (target,), tuple(victims), attacked)]


def informed(
    plain: Victim,
    robust: Sequence[Victim],
    model_of: ModelOf,
    *,
    name: str,
    seed: int,
    draws: int = 1,
    plain_weight: float = 0.5,
) -> list[Craft]:
    """One crafting for every token count and start; tried on the robust victims that have them.

    The attacker has the public head: one that was fitted on robust features is as private as the tokens.
    """
    kinds: dict[tuple[object, ...], list[Victim]] = {}
    for victim in robust:
        kinds.setdefault((victim.count, victim.init_std), []).append(victim)
    crafts = []
    for members in kinds.values():
        like = replace(members[0], head=plain.head)
        assert like.tokens is not None
        _, n, D = like.tokens.shape
        surrogate = InformedSurrogate(
            model_of(plain), model_of, n, D, like.init_std, seed, like, draws, plain_weight
        )
        crafts.append(
            Craft("informed", f"{name} + drawn tokens", surrogate, (model_of(plain),), tuple(members), None)
        )
    return crafts


def guessed(
    plain: Victim, robust: Sequence[Victim], model_of: ModelOf, *, name: str, guesses: Sequence[Victim]
) -> list[Craft]:
    """The attacker trained tokens of their own, and hopes that the private ones are like them."""
    surrogate = GuessedSurrogate(guesses, model_of)
    return [
        Craft("guessed", f"{name} + own tokens", surrogate, (model_of(plain),), tuple(robust), None),
    ]


def adaptive(
    plain: Victim, robust: Sequence[Victim], model_of: ModelOf, *, name: str, several_targets: bool
) -> list[Craft]:
    """The attacker has the tokens: a white-box crafting per robust victim, away from plain(clean) and victim(clean)."""
    crafts = []
    for victim in robust:
        model = model_of(victim)
        targets = (model_of(plain), model) if several_targets else (model,)
        crafts.append(Craft("adaptive", f"{name} + tokens", FixedSurrogate(model), targets, (victim,), model))
    return crafts


def query(plain: Victim, robust: Sequence[Victim], model_of: ModelOf, *, name: str) -> list[Craft]:
    """The attacker sees the deployed model's scores only: a crafting per robust victim, away from plain(clean)."""
    crafts = []
    for victim in robust:
        model = model_of(victim)
        crafts.append(
            Craft("query", f"{name}'s scores", FixedSurrogate(model), (model_of(plain),), (victim,), model)
        )
    return crafts
