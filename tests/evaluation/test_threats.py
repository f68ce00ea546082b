"""Surrogates that average over untrained twins, and over an attacker's own defenses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rtok.attacks.objective import Step
from rtok.defenses import RobustnessTokens
from rtok.evaluation.threats import BoundSurrogate, FreshTwins, ThreatContext, guessed
from rtok.evaluation.victims import Victim

BACKBONE: Any = SimpleNamespace(name="the backbone", takes_entries=True, vit=SimpleNamespace(blocks=()))
BACKBONE.backbone = BACKBONE  # as a plain model, it is its own backbone
PLAIN = Victim("plain", BACKBONE)


def twins(**options: float) -> FreshTwins:
    defense = RobustnessTokens(torch.zeros(1, 3, 5), config={"defense": {"init_std": 0.1}})
    return FreshTwins(PLAIN, defense, 7, **options)  # type: ignore[arg-type]


def values(victim: Victim) -> torch.Tensor:
    assert isinstance(victim.defense, RobustnessTokens)
    return victim.defense.values


def test_informed_averages_the_plain_model_and_one_fresh_draw() -> None:
    (half, plain), (other_half, drawn) = twins()(Step(0, 4))
    assert (half, other_half) == (0.5, 0.5)
    assert plain is PLAIN
    expected = RobustnessTokens.draw(3, 5, "informed", 0, 4, std=0.1, seed=7).values
    torch.testing.assert_close(values(drawn), expected)
    assert not torch.equal(values(drawn), values(twins()(Step(0, 5))[1][1]))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"draws": 3, "plain_weight": 0.25}, [0.25] * 4),
        ({"draws": 2, "plain_weight": 0.0}, [0.5, 0.5]),
        ({"draws": 2, "plain_weight": 1.0}, [1.0]),
    ],
)
def test_more_draws_share_what_the_plain_model_leaves(options: dict, weights: list[float]) -> None:
    surrogate = BoundSurrogate(twins(**options), lambda victim: lambda x: x if victim is PLAIN else values(victim))
    members = surrogate.members(Step(0, 0))
    assert [weight for weight, _ in members] == pytest.approx(weights)
    draws = [model(torch.ones(1)) for _, model in members if model(torch.ones(1)).ndim == 3]
    assert len({float(draw.sum()) for draw in draws}) == len(draws)


def test_the_first_of_several_draws_is_the_only_one_of_one() -> None:
    several, one = (twins(draws=draws)(Step(1, 2))[1][1] for draws in (4, 1))
    assert torch.equal(values(several), values(one))


def test_an_attack_can_ask_for_more_draws() -> None:
    usual, asked = twins(draws=6)(Step(1, 2)), twins(draws=2)(Step(1, 2, draws=3))
    assert [weight for weight, _ in asked] == pytest.approx([weight for weight, _ in usual])
    for (_, a), (_, b) in zip(usual[1:], asked[1:], strict=True):
        assert torch.equal(values(a), values(b))


def test_guessed_tokens_weigh_the_same_and_may_come_later() -> None:
    guesses: list[Victim] = []
    config: Any = SimpleNamespace(model=SimpleNamespace(name="a"))
    (scenario,) = guessed(ThreatContext(config, PLAIN, PLAIN, guesses=guesses), None)  # type: ignore[arg-type]
    surrogate = BoundSurrogate(scenario.crafted_on, lambda victim: lambda x: x * victim.draw)  # type: ignore[operator]
    guesses += [replace(PLAIN, draw=i) for i in range(4)]
    members = surrogate.members(Step(0, 0))
    assert [weight for weight, _ in members] == [0.25] * 4
    assert [float(model(torch.full((1,), 2.0))) for _, model in members] == [0, 2, 4, 6]
