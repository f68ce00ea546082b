"""Surrogates that average over tokens."""

from __future__ import annotations

import pytest
import torch

from rtok.attacks.objective import Step
from rtok.evaluation.threats import GuessedSurrogate, InformedSurrogate
from rtok.evaluation.victims import Victim, random_tokens


def informed(**options: float) -> InformedSurrogate:
    like = Victim("robust", torch.zeros(1, 3, 5))
    return InformedSurrogate(
        lambda x: x, lambda victim: lambda x: victim.tokens, 3, 5, 0.1, 7, like, **options
    )  # type: ignore[arg-type, return-value]


def test_informed_averages_the_plain_model_and_one_fresh_draw() -> None:
    (half, plain), (other_half, drawn) = informed().members(Step(0, 4))
    assert (half, other_half) == (0.5, 0.5)
    x = torch.ones(1)
    assert plain(x) is x
    torch.testing.assert_close(drawn(x), random_tokens(3, 5, 0.1, 7, "informed", 0, 4))
    assert not torch.equal(drawn(x), informed().members(Step(0, 5))[1][1](x))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"draws": 3, "plain_weight": 0.25}, [0.25] * 4),
        ({"draws": 2, "plain_weight": 0.0}, [0.5, 0.5]),
        ({"draws": 2, "plain_weight": 1.0}, [1.0]),
    ],
)
def test_more_draws_share_what_the_plain_model_leaves(options: dict, weights: list[float]) -> None:
    members = informed(**options).members(Step(0, 0))
    assert [weight for weight, _ in members] == pytest.approx(weights)
    draws = [model(torch.ones(1)) for _, model in members if model(torch.ones(1)).ndim == 3]
    assert len({float(draw.sum()) for draw in draws}) == len(draws)


def test_the_first_of_several_draws_is_the_only_one_of_one() -> None:
    x, draw = torch.ones(1), Step(1, 2)
    assert torch.equal(informed(draws=4).members(draw)[1][1](x), informed().members(draw)[1][1](x))


def test_guessed_tokens_weigh_the_same_and_may_come_later() -> None:
    guesses: list[Victim] = []
    surrogate = GuessedSurrogate(guesses, lambda victim: lambda x: x * victim.tokens)  # type: ignore[operator]
    guesses += [Victim("robust", torch.full((1,), float(i))) for i in range(4)]
    members = surrogate.members(Step(0, 0))
    assert [weight for weight, _ in members] == [0.25] * 4
    assert [float(model(torch.full((1,), 2.0))) for _, model in members] == [0, 2, 4, 6]
