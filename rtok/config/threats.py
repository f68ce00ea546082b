"""The sections about attackers (`informed`, `guessed`, `query`) and the checks on the evaluation itself (`sanity`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rtok.config.sections import DataConfig
from rtok.config.types import Count, Few, Index, NotNegative, Section, UniqueList

Threat = Literal["transfer", "informed", "guessed", "adaptive", "query"]


class InformedConfig(Section):
    """How the `informed` attacker averages over tokens they do not know."""

    draws: Few = Field(1, description="Fresh draws of untrained tokens at every step.")
    plain_weight: Annotated[NotNegative, Field(le=1)] = Field(
        0.5, description="Weight of the plain model's gradient, from 0 to 1; the draws share the rest."
    )


class GuessedConfig(Section):
    """The `guessed` attacker's own tokens, trained as the victim's were (its file says how) but from other seeds."""

    train: Few = Field(description="How many token sets the attacker trains and averages over.")
    data: DataConfig | None = Field(
        None, description="The images they are trained on. Null: the `train` split of `data`."
    )


class QueryConfig(Section):
    """The `query` attacker: Square attack on the deployed robust model's scores, within `attack`'s radius."""

    queries: UniqueList[Count] = Field([1000, 5000], description="Budgets, in queries an image.")
    starts: UniqueList[Literal["cold", "transfer"]] = Field(
        ["cold", "transfer"],
        description="What the search starts from: the clean image, or what `attack` finds on the plain model.",
    )


class SanityConfig(Section):
    """Checks that the attacks are what they should be, on a few images: see docs/eval-features.md."""

    images: Index = Field(
        4, description="How many images the checks use, the first of the data. 0: no checks."
    )
    steps: Count = Field(
        10, description="Steps of the checks' attack, or `attack.steps` where those are fewer."
    )
