"""The sections of the attacks that come with the package; each holds its method's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from typing_extensions import Self

from rtok.config.attack import AttackConfig, Axis, Features, Loss, Quantize, choose
from rtok.config.registry import ATTACKS, SectionOf
from rtok.config.types import Count, FilePath, NotNegative, Positive, Section, Share, UniqueList, broken_rule

Init = Literal["uniform", "gaussian", "none", "transfer"]


class VariantConfig(Section):
    """What one member of an ensemble changes in the attack; the radius is the same for all."""

    steps: Count | None = None
    restarts: Count | None = None
    init: Init | None = None
    draws: Count | None = None
    axis: Axis | None = None
    features: Features | None = None
    loss: Loss | None = None
    layer: Positive | None = None

    @model_serializer(mode="wrap")
    def _changes(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


class PGDVariantConfig(VariantConfig):
    """What one member of an ensemble of PGD can change besides."""

    momentum: NotNegative | None = None
    diversity: Share | None = None


_VARIANTS = "An ensemble: each changes some of {}; per image and victim the strongest result counts."


class GradientConfig(AttackConfig):
    """What attacks that follow gradients have in common; one of them, or an ensemble of its variants."""

    steps: Count = Field(30, description="Gradient steps.")
    restarts: Count = Field(1, description="Independent starts; per image the strongest result counts.")
    init: Init = Field(
        "uniform",
        description="The start: uniform in the ball, 0.01 * N(0, 1) in `units`, the image itself, or (`transfer`) "
        "what this attack finds on the plain model, for attackers who know more; further restarts are uniform.",
    )
    draws: Count = Field(
        1,
        description="EOT: how many draws of a random surrogate, such as that of `informed`, each gradient averages. A "
        "fixed surrogate has only one.",
    )
    layer: Annotated[Positive, Field(le=1)] = Field(
        1.0,
        description="The depth at which features are attacked: 0.5 is the middle block's; 1 is the model's output, or "
        "its loss on labels.",
    )
    variants: UniqueList[VariantConfig] | None = Field(
        None, description=_VARIANTS.format(", ".join(f"`{key}`" for key in VariantConfig.model_fields))
    )

    @property
    def members(self) -> list[AttackConfig]:
        """The variants of an ensemble, or the attack itself."""
        changes = [variant.model_dump() for variant in self.variants or ()]
        return [self.model_copy(update={"variants": None, **change}) for change in changes] or [self]

    @property
    def depth(self) -> float:
        """The depth at which features are attacked; 1 is the model's output."""
        return self.layer

    @property
    def warm(self) -> bool:
        """Whether it starts from what it finds on the plain model."""
        return self.init == "transfer"

    @property
    def counts(self) -> dict[str, int | None]:
        """Its steps and restarts; None where the variants of an ensemble differ."""
        members = self.members
        told = {key: {getattr(member, key) for member in members} for key in ("steps", "restarts")}
        return {**super().counts, **{key: found.pop() if len(found) == 1 else None for key, found in told.items()}}

    def at_radius(self, eps: float) -> AttackConfig:
        """The same attack with an Linf radius in pixels, from a start that fills it."""
        init = "uniform" if self.init == "gaussian" else self.init
        return super().at_radius(eps).model_copy(update={"init": init})


class PGDConfig(GradientConfig):
    """`method: pgd`: projected gradient descent (Madry et al., 2018), or an ensemble of its variants."""

    step: Positive | None = Field(
        None,
        description="The step size, in `units`. Null: a quarter of the radius, or with `momentum` radius over steps.",
    )
    momentum: NotNegative = Field(0.0, description="Decay of the accumulated gradient (MI-FGSM). 0: plain PGD.")
    mse_weight: NotNegative = Field(
        0.0, description="Weight of the pixel MSE in the objective; the original code has 1."
    )
    max_mse: Positive | None = Field(
        None, description="An image stops moving once its pixel MSE reaches this. Null: it never stops."
    )
    diversity: Share = Field(
        0.0, description="Chance that a step sees the image shrunk by up to a tenth and shifted (DI-FGSM)."
    )
    variants: UniqueList[PGDVariantConfig] | None = Field(  # type: ignore[assignment]
        None, description=_VARIANTS.format(", ".join(f"`{key}`" for key in PGDVariantConfig.model_fields))
    )

    def scaled(self, share: float) -> Self:
        """The same attack with this share of its radius and of its step size."""
        scaled, step = super().scaled(share), self.step
        return scaled if share == 1 or step is None else scaled.model_copy(update={"step": share * step})

    def at_radius(self, eps: float) -> AttackConfig:
        """The same attack with an Linf radius in pixels, and nothing else that bounds it."""
        return super().at_radius(eps).model_copy(update={"step": None, "mse_weight": 0.0, "max_mse": None})


class APGDConfig(GradientConfig):
    """`method: apgd`: Auto-PGD (Croce & Hein, 2020), which chooses its step sizes, or an ensemble of its variants."""

    method: str = Field("apgd", description=AttackConfig.model_fields["method"].description)
    steps: Count = Field(100, description="Gradient steps.")
    shrink: bool = Field(
        False,
        description="The first 3/10 of the steps have twice the radius, the next 3/10 one and a half times, and the "
        "rest the radius itself, each from where the last ended, as SEA does on masks.",
    )


class SquareConfig(AttackConfig):
    """`method: square`: Square attack (Andriushchenko et al., 2020), a random search that needs scores only.

    `loss` is `margin` unless it is set.
    """

    follows_gradients: ClassVar[bool] = False
    stops_when_fooled: ClassVar[bool] = True

    method: str = Field("square", description=AttackConfig.model_fields["method"].description)
    loss: Loss = Field("margin", description=AttackConfig.model_fields["loss"].description)
    queries: Count = Field(1000, description="Queries per image.")

    @model_validator(mode="after")
    def _check_norm(self) -> SquareConfig:
        if self.norm != "linf":
            raise broken_rule("method square is made for norm linf")
        return self

    @property
    def counts(self) -> dict[str, int | None]:
        """Its queries."""
        return {**super().counts, "queries": self.queries}


class AutoAttackConfig(AttackConfig):
    """`method: autoattack`: the ensemble of Croce & Hein, 2020, on labels.

    Its radius is in pixels. It has no `units`, `axis`, `features` or `loss`, and `quantize` is `none` unless it is set.
    """

    unused: ClassVar[frozenset[str]] = frozenset({"units", "axis", "features", "loss"})
    objectives: ClassVar[tuple[Literal["features", "labels", "masks"], ...]] = ("labels",)
    stops_when_fooled: ClassVar[bool] = True

    method: str = Field("autoattack", description=AttackConfig.model_fields["method"].description)
    quantize: Quantize = Field("none", description=AttackConfig.model_fields["quantize"].description)
    version: Literal["standard", "plus", "custom"] = Field(
        "standard", description="Which of its ensembles; `custom` runs `attacks`."
    )
    attacks: UniqueList[Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]] | None = Field(
        None, description="The parts of `version: custom`, in order."
    )

    @model_validator(mode="after")
    def _check_custom(self) -> AutoAttackConfig:
        if (self.version == "custom") != (self.attacks is not None):
            raise broken_rule("version: custom and a list of attacks go together")
        return self


class StoredConfig(AttackConfig):
    """`{from: DIR}`: a set from disk."""

    unused: ClassVar[frozenset[str]] = frozenset(AttackConfig.model_fields)

    method: str = "from"
    from_: FilePath = Field(
        alias="from",
        description="A folder that `rtok attack` wrote: use its images instead of crafting new ones. "
        "Excludes all other keys.",
    )

    @classmethod
    def _refusal(cls, idle: str) -> str:
        whole = "to replace the whole attack: --set 'attack={from: DIR}'"
        return f"'from' stands alone, without {idle}; {whole}"

    @property
    def stored(self) -> Path:
        """The folder."""
        return self.from_

    @property
    def label(self) -> str:
        """The folder."""
        return str(self.from_)


ATTACKS.add("pgd", "rtok.attacks.pgd:PGD", about="projected gradient descent", section=PGDConfig)
ATTACKS.add("apgd", "rtok.attacks.apgd:APGD", about="Auto-PGD, the stronger one", section=APGDConfig)
ATTACKS.add("autoattack", "rtok.attacks.autoattack:AutoAttack", about="an ensemble on labels", section=AutoAttackConfig)
ATTACKS.add("square", "rtok.attacks.square:Square", about="a random search by scores", section=SquareConfig)
ATTACKS.add("from", "rtok.attacks.stored:AdversarialSet", about="a set from disk", section=StoredConfig)

AnyAttack = Annotated[AttackConfig, SectionOf(ATTACKS, choose)]
