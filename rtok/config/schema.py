"""The config, the same for all commands. Errors and docs derive from its fields."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field

from rtok.config import strict_yaml
from rtok.config.attack import AttackConfig
from rtok.config.attack_methods import AnyAttack, PGDConfig
from rtok.config.defenses import AnyDefense, AnyPlace, DefensePath, Place, StackConfig, as_places
from rtok.config.environment import escape
from rtok.config.head import HeadConfig
from rtok.config.ready import protocols
from rtok.config.registry import ATTACKS, DEFENSES, THREATS
from rtok.config.sections import AnalysisConfig, DataConfig, ModelConfig, SurrogateConfig
from rtok.config.segmentation import SegmentationConfig
from rtok.config.threats import ExtractedConfig, GuessedConfig, InformedConfig, QueryConfig, SanityConfig, ThreatName
from rtok.config.training import TrainConfig, ValidateConfig
from rtok.config.types import (
    BY_SHAPE,
    FilePath,
    Index,
    Listed,
    Mapped,
    Positive,
    Section,
    Single,
    SmallCount,
    UniqueList,
    expected,
    with_fractions,
)

Precision = Literal["fp32", "auto", "tf32", "bf16"]
Compile = Literal[False, "default", "reduce-overhead", "max-autotune", "cuda-graphs"]


def _default_out(validated: dict[str, Any]) -> Path:
    name = validated["model"].name if "model" in validated else "run"
    return Path("results", name.replace(":", "-").replace("/", "-"))


def _spelled_out(attack: Any) -> Any:
    """Read `ensemble` as `{preset: ensemble}`, alone and in lists."""
    if isinstance(attack, list):
        return [_spelled_out(one) for one in attack]
    return {"preset": attack} if isinstance(attack, str) else attack


def _paths(named: Any) -> list[Path]:
    """Return the paths of a key that also takes a section or null."""
    return named if isinstance(named, list) else [named] if isinstance(named, Path) else []


def _known_protocol(name: str) -> str:
    if name not in protocols():
        raise expected(f"a protocol: {', '.join(protocols())}")
    return name


def _as_mode(value: Any) -> Any:
    """Read a switch, which `compile` was in version 0.1, as a mode; from a `${VAR}` it is text."""
    if isinstance(value, str):
        return {"true": "default", "false": False}.get(value.lower(), value)
    return "default" if value is True else value


def _defaults_for_null(section: Any) -> Any:
    return {} if section is None else section


class Config(Section):
    """All settings of a command."""

    model: ModelConfig = Field(description="The backbone.")
    defense: Annotated[
        Annotated[Mapped[AnyDefense] | Listed[UniqueList[AnyPlace]] | Single[DefensePath], BY_SHAPE] | None,
        BeforeValidator(as_places),
    ] = Field(
        None,
        validation_alias=AliasChoices("defense", "tokens"),
        description="`train`: the defense to train, a section. `eval-*`: a file or run folder that `train` wrote, "
        "`hf:USER/REPO[@REVISION][:FILE]` that `rtok push` did, weights that others made, several on each other as "
        "`{stack: [FILE, FILE]}`, or a list of these. `tokens` is another name of this key.",
    )
    surrogate: SurrogateConfig = Field(
        SurrogateConfig(), description="`attack`, `eval-*`: the model that `transfer` crafts on."
    )
    data: DataConfig = Field(description="The images.")
    attack: Annotated[Mapped[AnyAttack] | Listed[UniqueList[AnyAttack]], BY_SHAPE, BeforeValidator(_spelled_out)] = (
        Field(
            PGDConfig(preset="paper"),
            description="The attack: a section, or (`eval-*`) a list of them; a preset's name alone is short for "
            "`{preset: NAME}`. Without this key: `paper`.",
        )
    )
    train: TrainConfig = Field(TrainConfig(), description="`train`: the training.")
    head: HeadConfig | None = Field(None, description="`eval-class`, `eval-seg`: the head.")
    segmentation: Annotated[SegmentationConfig, BeforeValidator(_defaults_for_null)] = Field(
        SegmentationConfig(), description="`eval-seg`: what the model sees of an image. Null: the defaults."
    )
    threats: UniqueList[ThreatName] = Field(
        ["transfer", "informed", "adaptive"], description=f"`eval-*`: the attackers. {THREATS.described()}."
    )
    informed: InformedConfig = Field(InformedConfig(), description="`eval-*`: the `informed` attacker.")
    guessed: (
        Annotated[Mapped[GuessedConfig] | Listed[UniqueList[DefensePath]] | Single[DefensePath], BY_SHAPE] | None
    ) = Field(
        None,
        description="`eval-*`: the defenses of the `guessed` attacker: files, run folders or `hf:USER/REPO`, or "
        "`{train: N}`.",
    )
    extracted: ExtractedConfig | None = Field(None, description="`eval-*`: the `extracted` attacker.")
    query: QueryConfig = Field(QueryConfig(), description="`eval-*`: the `query` attacker.")
    curve: UniqueList[Annotated[Positive, Field(le=1)]] | None = Field(
        None,
        description="`eval-*`: Linf radii in pixels, such as `[0.5/255, 1/255, 2/255, 4/255, 8/255]`: the first attack "
        "runs at each, under every threat. Null: no curve.",
    )
    sanity: SanityConfig = Field(SanityConfig(), description="`eval-*`: checks of the attacks themselves.")
    control_draws: SmallCount = Field(
        5, description="`eval-*`: the random control averages over this many draws of the untrained defense."
    )
    check_weights: bool = Field(
        True, description="`attack`, `eval-*`: refuse a defense that was trained on other weights of the backbone."
    )
    analysis: AnalysisConfig = Field(AnalysisConfig(), description="`eval-features`: further measurements.")
    protocol: Annotated[str, AfterValidator(_known_protocol)] | None = Field(
        None,
        description="`eval-features`: the protocol that the run follows. It then also writes an entry for "
        "`rtok report --leaderboard` per defense, which names every setting that deviates.",
    )
    tracking: Literal["none", "tensorboard", "wandb", "mlflow"] = Field(
        "none",
        description="`train`, `eval-*`: where settings, numbers and figures are logged besides the run folder: into "
        "its `tensorboard`, or wherever `wandb` and `mlflow` are told to by their environment variables.",
    )
    precision: Precision = Field(
        "fp32",
        description="Arithmetic of the backbone. `auto`: fp32, but the gradients of attacks with bf16 products where "
        "the machine is faster with them; what an attack finds is scored in fp32.",
    )
    compile: Annotated[Compile, BeforeValidator(_as_mode)] = Field(
        False,
        description="Run the backbone compiled by `torch.compile` in this mode; `true` is `default`. `cuda-graphs` "
        "compiles nothing, and on a GPU replays the passes of an attack's steps as one CUDA graph.",
    )
    batch_size: SmallCount = Field(32, description="`attack`, `eval-*`: images per batch, over all processes.")
    seed: Index = Field(0, description="The seed of all noise, together with each image's path.")
    out: FilePath = Field(
        default_factory=_default_out,
        description="The run's folder. By default `results/MODEL` for `train`, `results/MODEL-COMMAND` for the others.",
    )

    @property
    def attacks(self) -> list[AttackConfig]:
        """The attacks, as a list."""
        return self.attack if isinstance(self.attack, list) else [self.attack]

    @property
    def defense_places(self) -> list[Place]:
        """The defenses to evaluate; empty when there are none."""
        named: Any = self.defense
        return named if isinstance(named, list) else [named] if isinstance(named, Path) else []

    @property
    def defense_paths(self) -> list[Path]:
        """The files and run folders that they lie in."""
        return [
            path
            for place in self.defense_places
            for path in (place.stack if isinstance(place, StackConfig) else [place])
        ]

    @property
    def guessed_paths(self) -> list[Path]:
        """The `guessed` attacker's token files or run folders; empty when they are to be trained."""
        return _paths(self.guessed)

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

    def to_yaml(self, keys: Collection[str] | None = None) -> str:
        """Return the config (or only some top-level keys) as YAML that `load_config` reads back equal."""
        content = {key: value for key, value in self.to_dict().items() if keys is None or key in keys}
        return strict_yaml.dump(escape(with_fractions(content)))


def _rebuild() -> None:
    for section in (ValidateConfig, TrainConfig, Config):
        section.model_rebuild(force=True)


# The sections that `attack` and `defense` accept are those that are registered when the model is built.
for _registry in (ATTACKS, DEFENSES):
    _registry.on_change(_rebuild)
