"""The config: one shape for all commands. Errors and docs derive from its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rtok.config import strict_yaml
from rtok.config.attack import AttackConfig
from rtok.config.environment import escape
from rtok.config.head import HeadConfig
from rtok.config.sections import (
    DataConfig,
    ModelConfig,
    SurrogateConfig,
    TokensConfig,
    TrainConfig,
)
from rtok.config.segmentation import SegmentationConfig
from rtok.config.types import BY_SHAPE, Count, FilePath, Index, Listed, Mapped, Section, Single, UniqueList

Threat = Literal["transfer", "informed", "adaptive"]


def _default_out(validated: dict[str, Any]) -> Path:
    name = validated["model"].name if "model" in validated else "run"
    return Path("results", name.replace(":", "-").replace("/", "-"))


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
    attack: Annotated[Mapped[AttackConfig] | Listed[UniqueList[AttackConfig]], BY_SHAPE] = Field(
        AttackConfig(preset="paper"),
        description="The attack: a section, or (`eval-*`) a list of them. Without this key: `{preset: "
        "paper}`.",
    )
    train: TrainConfig = Field(TrainConfig(), description="`train`: the training.")
    head: HeadConfig | None = Field(None, description="`eval-class`, `eval-seg`: the head.")
    segmentation: SegmentationConfig | None = Field(
        None, description="`eval-seg`: what the model sees of a picture. Null: the defaults of that section."
    )
    threats: UniqueList[Threat] = Field(
        ["transfer", "informed", "adaptive"],
        description="`eval-*`: what the attacker has. `transfer`: the plain backbone; `informed`: knows "
        "that there are tokens, not which; `adaptive`: the tokens too.",
    )
    control_draws: Count = Field(
        5, description="`eval-*`: how many draws of untrained tokens the random control averages."
    )
    tracking: Literal["none", "tensorboard", "wandb"] = Field(
        "none", description="`train`: where curves are sent besides the run folder."
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field("fp32", description="Arithmetic of the backbone.")
    compile: bool = Field(False, description="Compile the backbone with `torch.compile`.")
    batch_size: Count = Field(32, description="`attack`, `eval-*`: images a batch, over all processes.")
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
