"""The `defense` section: what a kind of defense is trained with. `kind` says which section it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from typing_extensions import Self

from rtok.config.registry import DEFENSES, NameIn, SectionOf
from rtok.config.types import (
    BY_SHAPE,
    Index,
    Listed,
    Mapped,
    Positive,
    Section,
    Single,
    SmallCount,
    UniqueList,
    broken_rule,
    parse_path,
)
from rtok.errors import UserError
from rtok.models.locations import OnHub, is_on_hub

KIND = "tokens"  # of a section that names none
STACK = "stack"  # of several defenses on each other


class DefenseConfig(Section):
    """The defense to train: the keys of every kind."""

    kind: Annotated[str, NameIn(DEFENSES)] = Field(description="The kind of defense.")
    seeds: UniqueList[Index] = Field([0], description="Seeds of the initial values; several train in one run.")

    def variants(self) -> Sequence[Self]:
        """The sections of the defenses that are trained in one run, but for their seeds."""
        return [self]


class TokensConfig(DefenseConfig):
    """Robustness tokens: extra input tokens."""

    kind: Annotated[str, NameIn(DEFENSES)] = Field(KIND, description="The kind of defense.")
    count: Annotated[Listed[UniqueList[SmallCount]] | Single[SmallCount], BY_SHAPE] = Field(
        10, description="How many tokens; a list trains all its counts in one run, on the same adversarial images."
    )
    init_std: Positive = Field(0.01, description="Tokens start as this times N(0, 1).")

    @property
    def counts(self) -> list[int]:
        """The counts, as a list."""
        return self.count if isinstance(self.count, list) else [self.count]

    def variants(self) -> Sequence[Self]:
        """One section per count."""
        return [self.model_copy(update={"count": count}) for count in self.counts]


class DeepTokensConfig(TokensConfig):
    """Deep tokens: extra tokens of their own for every block."""

    kind: Annotated[str, NameIn(DEFENSES)] = Field("deep-tokens", description="The kind of defense.")
    count: Annotated[Listed[UniqueList[SmallCount]] | Single[SmallCount], BY_SHAPE] = Field(
        10, description="How many tokens per block; a list trains all its counts in one run."
    )


class LoRAConfig(DefenseConfig):
    """LoRA: low-rank changes of linear layers, W + alpha / rank * B A."""

    kind: Annotated[str, NameIn(DEFENSES)] = Field("lora", description="The kind of defense.")
    rank: SmallCount = Field(8, description="The rank of each change.")
    alpha: Positive | None = Field(None, description="The change is alpha / rank * B A. Null: the rank, so B A.")
    targets: UniqueList[Literal["qkv", "proj", "fc1", "fc2"]] = Field(
        ["qkv", "proj", "fc1", "fc2"],
        description="The layers of a block that change: `qkv` and `proj` of the attention, `fc1` and `fc2` of the MLP.",
    )
    blocks: Annotated[Listed[UniqueList[Index]] | Single[Literal["all"]], BY_SHAPE] = Field(
        "all", description="The blocks that change: `all`, or a list of their numbers from 0."
    )


class WeightsConfig(DefenseConfig):
    """All weights of the model: full fine-tuning."""

    kind: Annotated[str, NameIn(DEFENSES)] = Field("weights", description="The kind of defense.")


DEFENSES.add(
    KIND,
    "rtok.defenses.tokens:RobustnessTokens",
    about="extra input tokens, trained on a frozen backbone",
    section=TokensConfig,
)

DEFENSES.add(
    "deep-tokens",
    "rtok.defenses.deep_tokens:DeepTokens",
    about="tokens of their own for every block",
    section=DeepTokensConfig,
)
DEFENSES.add(
    "lora", "rtok.defenses.lora:LoRA", about="low-rank changes of the frozen weights, which merge", section=LoRAConfig
)
DEFENSES.add(
    "weights", "rtok.defenses.weights:FullWeights", about="a whole set of weights, fine-tuned", section=WeightsConfig
)


def _kind(written: Any) -> str:
    kind = written.get("kind", KIND) if isinstance(written, Mapping) else getattr(written, "kind", KIND)
    return kind if isinstance(kind, str) and kind in DEFENSES else KIND


def _parse_place(written: object) -> Path:
    """Read a path, or a place on the hub, which is kept as it is written."""
    if isinstance(written, str) and is_on_hub(written):
        try:
            OnHub.parse(written)
        except UserError as error:
            raise broken_rule(str(error)) from None
    return parse_path(written)


# A file, a run folder, or `hf:USER/REPO[@REVISION][:FILE]`.
DefensePath = Annotated[Path, BeforeValidator(_parse_place)]


class StackConfig(Section):
    """Several trained defenses on each other, measured as one."""

    stack: Annotated[UniqueList[DefensePath], Field(min_length=2)] = Field(
        description="Files, run folders or `hf:USER/REPO`, the innermost first: each enters a model with those before "
        "it inside."
    )

    def __str__(self) -> str:
        """The files, as rows of results name the stack."""
        return _ON.join(map(str, self.stack))


Place = Path | StackConfig  # where a defense lies that is measured
_ON = " + "


def named_place(text: str) -> Place:
    """Return the place that rows of results name."""
    files = text.split(_ON)
    return Path(text) if len(files) == 1 else StackConfig(stack=list(map(Path, files)))


def as_places(written: Any) -> Any:
    """Read `{stack: [...]}` as a list of it alone."""
    return [written] if isinstance(written, Mapping) and STACK in written else written


AnyPlace = Annotated[Mapped[StackConfig] | Single[DefensePath], BY_SHAPE]
AnyDefense = Annotated[DefenseConfig, SectionOf(DEFENSES, _kind)]
