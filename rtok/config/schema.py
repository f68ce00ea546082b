"""The config: one shape for all commands. Errors and docs derive from its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rtok.config import strict_yaml
from rtok.config.attack import AttackConfig
from rtok.config.attack_methods import AnyAttack, PGDConfig
from rtok.config.environment import escape
from rtok.config.head import HeadConfig
from rtok.config.registry import ATTACKS
from rtok.config.sections import (
    AnalysisConfig,
    DataConfig,
    ModelConfig,
    SurrogateConfig,
    TokensConfig,
    TrainConfig,
)
from rtok.config.segmentation import SegmentationConfig
from rtok.config.threats import GuessedConfig, InformedConfig, QueryConfig, SanityConfig, Threat
from rtok.config.types import (
    BY_SHAPE,
    Few,
    FilePath,
    Index,
    Listed,
    Mapped,
    Positive,
    Section,
    Single,
    UniqueList,
)


def _default_out(validated: dict[str, Any]) -> Path:
    name = validated["model"].name if "model" in validated else "run"
    return Path("results", name.replace(":", "-").replace("/", "-"))


def _spelled_out(attack: Any) -> Any:
    """Read `ensemble` as `{preset: ensemble}`, alone and in lists."""
    if isinstance(attack, list):
        return [_spelled_out(one) for one in attack]
    return {"preset": attack} if isinstance(attack, str) else attack


class Config(Section):
    """Everything a command can be told."""

    model: ModelConfig = Field(description="The backbone.")
    tokens: (
        Annotated[Mapped[TokensConfig] | Listed[UniqueList[FilePath]] | Single[FilePath], BY_SHAPE] | None
    ) = Field(
        None,
        description="`train`: the tokens to train, a section. `attack`, `eval-*`: a token file, a run "
        "folder, or a list of them.",
    )
    surrogate: SurrogateConfig = Field(
        SurrogateConfig(), description="`attack`, `eval-*`: the model that `transfer` crafts on."
    )
    data: DataConfig = Field(description="The images.")
    attack: Annotated[
        Mapped[AnyAttack] | Listed[UniqueList[AnyAttack]], BY_SHAPE, BeforeValidator(_spelled_out)
    ] = Field(
        PGDConfig(preset="paper"),
        description="The attack: a section, or (`eval-*`) a list of them; a preset's name alone is short for "
        "`{preset: NAME}`. Without this key: `paper`.",
    )
    train: TrainConfig = Field(TrainConfig(), description="`train`: the training.")
    head: HeadConfig | None = Field(None, description="`eval-class`, `eval-seg`: the head.")
    segmentation: SegmentationConfig | None = Field(
        None, description="`eval-seg`: what the model sees of a picture. Null: the defaults of that section."
    )
    threats: UniqueList[Threat] = Field(
        ["transfer", "informed", "adaptive"],
        description="`eval-*`: what the attacker has. `transfer`: the plain backbone; `informed`: knows "
        "that there are tokens, not which; `guessed`: tokens of their own; `adaptive`: the tokens too; `query`: "
        "the deployed robust model's scores only.",
    )
    informed: InformedConfig = Field(InformedConfig(), description="`eval-*`: the `informed` attacker.")
    guessed: (
        Annotated[Mapped[GuessedConfig] | Listed[UniqueList[FilePath]] | Single[FilePath], BY_SHAPE] | None
    ) = Field(
        None,
        description="`eval-*`: the `guessed` attacker's tokens: files or run folders, or `{train: N}`.",
    )
    query: QueryConfig = Field(QueryConfig(), description="`eval-*`: the `query` attacker.")
    curve: UniqueList[Positive] | None = Field(
        None,
        description="`eval-*`: Linf radii in pixels, such as `[0.5/255, 1/255, 2/255, 4/255, 8/255]`: the first attack "
        "is tried at each, under every threat. Null: no curve.",
    )
    sanity: SanityConfig = Field(SanityConfig(), description="`eval-*`: checks of the attacks themselves.")
    control_draws: Few = Field(
        5, description="`eval-*`: how many draws of untrained tokens the random control averages."
    )
    analysis: AnalysisConfig = Field(
        AnalysisConfig(), description="`eval-features`: what is looked at besides the results."
    )
    tracking: Literal["none", "tensorboard", "wandb"] = Field(
        "none", description="`train`: where curves are sent besides the run folder."
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field("fp32", description="Arithmetic of the backbone.")
    compile: bool = Field(False, description="Compile the backbone with `torch.compile`.")
    batch_size: Few = Field(32, description="`attack`, `eval-*`: images a batch, over all processes.")
    seed: Index = Field(0, description="What all noise derives from, together with each image's path.")
    out: FilePath = Field(
        default_factory=_default_out,
        description="The run's folder. By default `results/MODEL` for `train`, `results/MODEL-COMMAND` "
        "for the others.",
    )

    @property
    def attacks(self) -> list[AttackConfig]:
        """The attacks, as a list."""
        return self.attack if isinstance(self.attack, list) else [self.attack]

    @property
    def token_paths(self) -> list[Path]:
        """The token files or run folders to evaluate; empty when there are none."""
        if self.tokens is None or isinstance(self.tokens, TokensConfig):
            return []
        return self.tokens if isinstance(self.tokens, list) else [self.tokens]

    @property
    def guessed_paths(self) -> list[Path]:
        """The `guessed` attacker's token files or run folders; empty when they are to be trained."""
        if self.guessed is None or isinstance(self.guessed, GuessedConfig):
            return []
        return self.guessed if isinstance(self.guessed, list) else [self.guessed]

    @property
    def surrogate_model(self) -> ModelConfig:
        """The model that `transfer` crafts on; a bare name gets pretrained weights and `model`'s size."""
        chosen = self.surrogate.model
        if isinstance(chosen, ModelConfig):
            return chosen
        return self.model if chosen == "same" else ModelConfig(name=chosen, image_size=self.model.image_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain data: every option filled in, paths as text."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the config as YAML that `load_config` reads back equal."""
        return strict_yaml.dump(escape(self.to_dict()))


def _rebuild() -> None:
    Config.model_rebuild(force=True)


# The sections that `attack` accepts are those that are registered when the model is built.
ATTACKS.on_change(_rebuild)
