"""The sections about attackers (`informed`, `guessed`, `extracted`, `query`) and the evaluation's checks (`sanity`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rtok.config.registry import THREATS, NameIn
from rtok.config.sections import DataConfig
from rtok.config.types import Count, Index, Positive, Section, Share, SmallCount, UniqueList, broken_rule

_HOME = "rtok.evaluation.threats"
for _name, _about in {
    "transfer": "crafts on the plain backbone",
    "informed": "knows that there is a defense, but not its values",
    "guessed": "trains defenses of their own in the same way",
    "extracted": "fits a defense to the answers of the deployed robust model",
    "adaptive": "knows the deployed defense",
    "query": "sees only the scores of the deployed robust model",
}.items():
    THREATS.add(_name, f"{_HOME}:{_name}", about=_about)

ThreatName = Annotated[str, NameIn(THREATS)]


class InformedConfig(Section):
    """How the `informed` attacker averages over defenses that they do not know."""

    draws: SmallCount = Field(1, description="Fresh draws of the untrained defense per step.")
    plain_weight: Share = Field(0.5, description="Weight of the plain model's gradient; the draws share the rest.")


class GuessedConfig(Section):
    """The `guessed` attacker's own defenses, trained like the victim's (its file says how) from other seeds."""

    train: SmallCount = Field(description="How many defenses the attacker trains and averages over.")
    data: DataConfig | None = Field(
        None, description="The images that they are trained on. Null: the `train` split of `data`."
    )

    def images(self, data: DataConfig) -> DataConfig:
        """The images that the attacker trains on, where the run's are `data`."""
        return self.data or data.model_copy(update={"split": "train", "limit": None, "limit_per_group": None})


class ExtractedConfig(Section):
    """The `extracted` attacker's copy of a defense, fitted to the deployed model's answers."""

    queries: Count | None = Field(
        None, description="Ask about this many images of the attacker's own, of the `train` split of `data`."
    )
    queries_per_image: SmallCount | None = Field(
        None, description="Ask about each attacked image instead: itself, then this many less one noisy versions of it."
    )
    steps: Count = Field(100, description="Steps of the fit (Adam), with 8 images each.")
    lr: Positive | None = Field(
        None,
        description="The learning rate; it falls to zero along half a cosine. Null: the kind's own, 0.01 for tokens "
        "and 0.001 for a LoRA.",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> ExtractedConfig:
        if (self.queries is None) == (self.queries_per_image is None):
            raise broken_rule("write either queries (on other images) or queries_per_image")
        return self

    def images(self, data: DataConfig) -> DataConfig:
        """The attacker's own images, where the run's are `data`."""
        return data.model_copy(update={"split": "train", "limit": self.queries, "limit_per_group": None})


class QueryConfig(Section):
    """The `query` attacker: Square attack on the deployed robust model's scores, within `attack`'s radius."""

    queries: UniqueList[Count] = Field([1000, 5000], description="Budgets, in queries per image.")
    starts: UniqueList[Literal["cold", "transfer"]] = Field(
        ["cold", "transfer"],
        description="What the search starts from: the clean image, or what `attack` finds on the plain model.",
    )


class SanityConfig(Section):
    """Checks on a few images that every attack works as it should."""

    images: Index = Field(4, description="The checks use this many images, of different groups if there are. 0: none.")
    queries: Count = Field(1000, description="Queries of the random search that attacks must beat, on two images.")

    @model_validator(mode="before")
    @classmethod
    def _read_old(cls, written: Any) -> Any:
        """Version 0.1 had `steps`; attacks are now checked as they are configured."""
        return {key: written[key] for key in written if key != "steps"} if isinstance(written, Mapping) else written
