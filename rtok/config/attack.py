"""The `attack` section: its options, and the presets as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rtok.config.types import Count, FilePath, NotNegative, Positive, Section, UniqueList, broken_rule

Preset = Literal[
    "paper",
    "standard",
    "standard-4",
    "l2",
    "autoattack",
    "momentum",
    "diverse",
    "intermediate",
    "ensemble",
    "square",
]
Init = Literal["uniform", "gaussian", "none", "transfer"]
Loss = Literal["cross-entropy", "margin"]
Share = Annotated[NotNegative, Field(le=1)]

# What each preset changes in the defaults of `AttackConfig`; those are what the field means by Linf PGD.
PRESETS: dict[str, dict[str, Any]] = {
    # The original code's attack, in normalised space: its radius is about 1.8/255 in pixels.
    "paper": {
        "units": "normalized",
        "step": 1e-2,
        "init": "gaussian",
        "mse_weight": 1.0,
        "max_mse": 1e-4,
        "quantize": "floor",
        "axis": "token",
    },
    "standard": {},
    "standard-4": {"eps": 4 / 255},  # RobustBench's radius for ImageNet
    "l2": {
        "norm": "l2",
        "eps": 3.0,
    },  # the radius of the `robustness` library's L2 ImageNet models (Engstrom et al., 2019)
    "autoattack": {"method": "autoattack", "quantize": "none"},
    # What transfers better than plain PGD, with the published settings: Dong et al., 2018 (momentum); Xie et al., 2019
    # (momentum and input diversity); features in the middle of the network, which models share more than its end.
    "momentum": {"momentum": 1.0},
    "diverse": {"momentum": 1.0, "diversity": 0.5},
    "intermediate": {"layer": 0.5},
    "ensemble": {
        "variants": [
            {},
            {"init": "transfer"},
            {"loss": "margin"},
            {"momentum": 1.0},
            {"momentum": 1.0, "diversity": 0.5},
            {"layer": 0.5},
        ]
    },
    "square": {"method": "square", "loss": "margin"},
}

# The keys that mean something for each kind of attack.
_COMMON = ("preset", "method", "norm", "eps", "quantize", "target")
_KEYS = {
    "from": ("from",),
    "pgd": (
        *_COMMON,
        "units",
        "step",
        "steps",
        "restarts",
        "init",
        "momentum",
        "mse_weight",
        "max_mse",
        "axis",
        "loss",
        "diversity",
        "layer",
        "variants",
    ),
    "square": (*_COMMON, "units", "queries", "axis", "loss"),
    "autoattack": (*_COMMON, "version", "attacks"),
}


class VariantConfig(Section):
    """What one member of an ensemble changes in the attack; the radius is the same for all."""

    steps: Count | None = None
    restarts: Count | None = None
    init: Init | None = None
    momentum: NotNegative | None = None
    axis: Literal["token", "channel"] | None = None
    loss: Loss | None = None
    diversity: Share | None = None
    layer: Positive | None = None

    @model_serializer(mode="wrap")
    def _changes(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


class AttackConfig(Section):
    """One attack: `{from: DIR}`, or options.

    Once read, every option is filled in: from the preset, else from the defaults here.
    """

    preset: Preset | None = Field(
        None,
        description="Named options, which the other keys change one by one. `paper`: the original code's "
        "attack; `standard` and `standard-4`: Linf PGD with a radius of 8/255 and 4/255; "
        "`l2`: PGD with an L2 radius of 3.0; `autoattack`: AutoAttack on labels; `momentum`, `diverse`, "
        "`intermediate`: attacks that transfer better; `ensemble`: the strongest of these and PGD, per image; "
        "`square`: by scores only. Null: the defaults of this table.",
    )
    from_: FilePath | None = Field(
        None,
        alias="from",
        description="A folder that `rtok attack` wrote: use its images instead of crafting new ones. "
        "Excludes all other keys.",
    )
    method: Literal["pgd", "autoattack", "square"] = Field(
        "pgd",
        description="The algorithm. `autoattack` attacks labels only; `square` needs no gradient, and `norm: linf`.",
    )
    norm: Literal["linf", "l2"] = Field(
        "linf",
        description="What the radius bounds: the largest change of a value, or the length of the change "
        "of the whole image.",
    )
    eps: Positive = Field(8 / 255, description="The radius, in `units`, before rounding to 8 bits.")
    units: Literal["pixel", "normalized"] = Field(
        "pixel",
        description="What radius and step count in: pixel values in [0, 1], or those divided by the "
        "backbone's standard deviation. 8/255 in normalized units is about 1.8/255 in pixels.",
    )
    step: Positive | None = Field(
        None, description="The step size, in `units`. Null: a quarter of the radius."
    )
    steps: Count = Field(30, description="Gradient steps.")
    restarts: Count = Field(1, description="Independent starts; per image the strongest result counts.")
    init: Init = Field(
        "uniform",
        description="The start: uniform in the ball, 0.01 * N(0, 1) in `units`, the image itself, or (`transfer`) "
        "what this attack finds on the plain model, for attackers who know more; further restarts are uniform.",
    )
    momentum: NotNegative = Field(
        0.0, description="Decay of the accumulated gradient (MI-FGSM). 0: plain PGD."
    )
    mse_weight: NotNegative = Field(
        0.0, description="Weight of the pixel MSE in the objective; the original code has 1."
    )
    max_mse: Positive | None = Field(
        None, description="An image stops moving once its pixel MSE reaches this. Null: it never stops."
    )
    quantize: Literal["round", "floor", "none"] = Field(
        "round", description="How the result becomes 8-bit: by rounding, by truncation, or not at all."
    )
    axis: Literal["token", "channel"] = Field(
        "channel",
        description="The axis of the cosine similarity that is attacked; the original code has `token`.",
    )
    target: Literal["plain", "victim"] = Field(
        "plain",
        description="Whose clean features the attack pulls away from: the plain backbone's, or those of the model "
        "that is attacked, which differ where `surrogate.tokens` are set. `adaptive` always runs both.",
    )
    loss: Loss = Field(
        "cross-entropy",
        description="What attacks on labels raise: the cross-entropy, or the margin of the best wrong class.",
    )
    diversity: Share = Field(
        0.0, description="Chance that a step sees the image shrunk by up to a tenth and shifted (DI-FGSM)."
    )
    layer: Annotated[Positive, Field(le=1)] = Field(
        1.0,
        description="The depth at which features are attacked: 0.5 is the middle block's; 1 is the model's output, or "
        "its loss on labels.",
    )
    variants: UniqueList[VariantConfig] | None = Field(
        None,
        description="An ensemble: each changes some of `steps`, `restarts`, `init`, `momentum`, `axis`, `loss`, "
        "`diversity` and `layer`; per image and victim the strongest result counts.",
    )
    queries: Count = Field(1000, description="`square` only: queries an image.")
    version: Literal["standard", "plus", "custom"] = Field(
        "standard", description="AutoAttack only: which of its ensembles; `custom` runs `attacks`."
    )
    attacks: UniqueList[Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]] | None = Field(
        None, description="AutoAttack only: the parts of `version: custom`, in order."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, written: Any) -> Any:
        if not isinstance(written, Mapping):
            return written
        preset, method = written.get("preset"), written.get("method")
        if preset is None and method in ("autoattack", "square"):
            preset = method
        base = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        usual = base.get("method", "pgd")
        if isinstance(preset, str) and method not in (None, usual):
            raise broken_rule(f"preset {preset} is for method {usual}")
        kind = "from" if written.get("from") is not None else usual
        known = {field.alias or name for name, field in cls.model_fields.items()}
        idle = [key for key in written if key in known and key not in _KEYS.get(kind, known)]
        if idle and kind == "from":
            raise broken_rule(
                f"'from' stands alone, without {', '.join(idle)}; "
                "to replace the whole attack: --set 'attack={from: DIR}'"
            )
        if idle:
            raise broken_rule(
                f"method {kind} does not use {', '.join(idle)}; it uses {', '.join(_KEYS[kind])}"
            )
        return {**base, **written}

    @model_validator(mode="after")
    def _check_method(self) -> AttackConfig:
        if (self.version == "custom") != (self.attacks is not None):
            raise broken_rule("version: custom and a list of attacks go together")
        if self.method == "square" and self.norm != "linf":
            raise broken_rule("method square is made for norm linf")
        return self

    @model_serializer(mode="wrap")
    def _drop_idle_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = serialize(self)
        kind = "from" if self.from_ else self.method
        return {key: value for key, value in data.items() if key in _KEYS[kind]}

    @property
    def members(self) -> list[AttackConfig]:
        """The attacks that are run: the variants of an ensemble, or the attack itself."""
        if not self.variants:
            return [self]
        return [
            self.model_copy(update={"variants": None, **variant.model_dump()}) for variant in self.variants
        ]

    @property
    def depth(self) -> float:
        """Where in the network it attacks; 1 is the model's output."""
        return self.layer

    @property
    def warm(self) -> bool:
        """Whether it starts from what it finds on the plain model."""
        return self.init == "transfer"

    @property
    def stored(self) -> Path | None:
        """The folder of a stored set."""
        return self.from_

    @property
    def objectives(self) -> tuple[str, ...]:
        """What it can attack: `features`, `labels`."""
        return ("labels",) if self.method == "autoattack" else ("features", "labels")

    def at_radius(self, eps: float) -> AttackConfig:
        """The same attack with an Linf radius in pixels, for a curve: nothing else that bounds it, and no rounding.

        Rounding to 8 bits would decide at radii near 1/255.
        """
        changes: dict[str, Any] = {"norm": "linf", "units": "pixel", "eps": eps, "quantize": "none"}
        changes |= {"step": None, "mse_weight": 0.0, "max_mse": None}
        changes["init"] = "uniform" if self.init == "gaussian" else self.init
        return self.model_copy(update=changes)

    def by_queries(self, queries: int) -> AttackConfig:
        """Square attack within this attack's radius."""
        changes = {"method": "square", "queries": queries, "loss": "margin", "variants": None}
        return self.model_copy(update=changes)

    @property
    def label(self) -> str:
        """A short name for tables: the preset or the method, with the options that were changed."""
        if self.from_:
            return str(self.from_)
        usual = AttackConfig.model_validate(
            {"preset": self.preset} if self.preset else {"method": self.method}
        )
        options = (
            (key, getattr(self, key))
            for key in _KEYS[self.method]
            if getattr(self, key) != getattr(usual, key)
        )
        return ", ".join([self.preset or self.method, *(_words(key, value) for key, value in options)])


def _words(key: str, value: object) -> str:
    if key == "variants" and isinstance(value, list):
        return f"{len(value)} variants"
    return f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
