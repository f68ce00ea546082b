"""The `attack` section: what all attacks have in common.

Every method has a section of its own, which holds its keys: `attack_methods` has those that come with the package.
Presets are named settings of a method: `attack_presets` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator
from typing_extensions import Self

from rtok.config.attack_presets import PRESETS, Preset
from rtok.config.registry import ATTACKS
from rtok.config.types import IN_255THS, Positive, Section, as_fraction, broken_rule, expected
from rtok.errors import nearest

Norm = Literal["linf", "l2"]
Units = Literal["pixel", "normalized"]
Quantize = Literal["round", "floor", "none"]
Axis = Literal["token", "channel"]
Features = Literal["all", "cls"]
LabelLoss = Literal["cross-entropy", "margin", "dlr"]
MaskLoss = Literal["masked-cross-entropy", "balanced-cross-entropy", "jensen-shannon"]
Loss = Literal[LabelLoss, MaskLoss]

DEFAULT_METHOD = "pgd"


class AttackConfig(Section):
    """One attack: `{from: DIR}`, or a method's options.

    Once read, every option is filled in: from the preset, else from the method's defaults. A method's section is a
    subclass with its name as the default of `method`, and with its own keys.

    Attributes:
        unused: keys of this class that mean nothing to the method: refused in a config, and not written.
        objectives: what the method can attack; masks have many labels an image.
        follows_gradients: whether it takes gradients of what it attacks, as training needs.
        stops_when_fooled: whether on labels it leaves an image as soon as the surrogate is fooled, just beyond its
            boundary, where few other models are.
    """

    unused: ClassVar[frozenset[str]] = frozenset()
    objectives: ClassVar[tuple[Literal["features", "labels", "masks"], ...]] = ("features", "labels", "masks")
    follows_gradients: ClassVar[bool] = True
    stops_when_fooled: ClassVar[bool] = False

    preset: Preset | None = Field(
        None,
        description="Named options, which the other keys change one by one. `paper`: the original code's "
        "attack; `standard` and `standard-4`: Linf PGD with a radius of 8/255 and 4/255; "
        "`l2`: PGD with an L2 radius of 3.0; `apgd`: Auto-PGD with 100 steps; `apgd-ensemble`: the strongest of its "
        "variants with five restarts each, for white-box threats; `autoattack`: AutoAttack on labels; `momentum`, "
        "`diverse`, "
        "`intermediate`: attacks that transfer better; `ensemble`: the strongest of these and PGD, per image; "
        "`sea`: the ensemble for masks; `square`: by scores only. Null: the defaults of this table.",
    )
    method: str = Field(
        DEFAULT_METHOD,
        description="The algorithm: `pgd`, `apgd`, `autoattack` (on labels only) or `square` (without gradients, and "
        "with `norm: linf`).",
    )
    norm: Norm = Field(
        "linf",
        description="What the radius bounds: the largest change of a value, or the length of the change "
        "of the whole image.",
    )
    eps: Positive = Field(8 / 255, description="The radius, in `units`, before rounding to 8 bits.")
    units: Units = Field(
        "pixel",
        description="What radius and step count in: pixel values in [0, 1], or those divided by the "
        "backbone's standard deviation. 8/255 in normalized units is about 1.8/255 in pixels.",
    )
    quantize: Quantize = Field(
        "round", description="How the result becomes 8-bit: by rounding, by truncation, or not at all."
    )
    target: Literal["plain", "victim"] = Field(
        "plain",
        description="Whose clean features the attack pulls away from: the plain backbone's, or those of the model "
        "that is attacked, which differ where `surrogate.defense` is set. `adaptive` always runs both.",
    )
    axis: Axis = Field(
        "channel", description="The axis of the cosine similarity that is attacked; the original code has `token`."
    )
    features: Features = Field(
        "all",
        description="Which features the attack pulls away: the CLS token's and all patches', or the CLS token's alone "
        "(`cls`), over its channels.",
    )
    loss: Loss = Field(
        "cross-entropy",
        description="What attacks on labels raise: the cross-entropy, the margin of the best wrong class, or `dlr`, "
        "the margin over the spread of the largest logits (AutoAttack's). On masks also `masked-cross-entropy`, that "
        "of the pixels that are still right, `balanced-cross-entropy`, with the same weight for each class, and "
        "`jensen-shannon`.",
    )

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that mean something to the method, by the names that a config uses."""
        fields = cls.model_fields.items()
        return [field.alias or name for name, field in fields if name not in cls.unused]

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, written: Any) -> Any:
        if not isinstance(written, Mapping):
            return written
        cls._check_keys(written)
        preset = written.get("preset")
        options = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        usual, own = options.get("method", DEFAULT_METHOD), cls.model_fields["method"].default
        if preset is not None and usual != own:
            raise broken_rule(f"preset {preset} is for method {usual}")
        return {**options, **written}

    @classmethod
    def _check_keys(cls, written: Mapping[str, Any]) -> None:
        """Refuse another method's keys; a key that no method has is left to pydantic."""
        sections = [entry.section for entry in ATTACKS.entries() if entry.section]
        fields = [field for section in sections for field in section.model_fields.items()]
        known, own = {field.alias or name for name, field in fields}, cls.keys()
        idle = [key for key in written if key in known and key not in own]
        if idle:
            raise broken_rule(cls._refusal(", ".join(idle)))

    @classmethod
    def _refusal(cls, idle: str) -> str:
        method = cls.model_fields["method"].default
        return f"method {method} does not use {idle}; it uses {', '.join(cls.keys())}"

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, method: object) -> object:
        own = cls.model_fields["method"].default
        if method != own:
            valid = [own] if method in ATTACKS else [name for name in ATTACKS if name != "from"]
            hint = nearest(str(method), valid)
            raise expected(", ".join(valid) + (f".{hint}" if hint else ""))
        return method

    @model_validator(mode="after")
    def _check_radius(self) -> Self:
        if self.eps > 1 and (self.norm, self.units) == ("linf", "pixel"):
            raise broken_rule(
                f"eps is {self.eps:g}, but pixels are in [0, 1], so that any image is within it: did you mean "
                f"{self.eps:g}/255?"
            )
        return self

    @model_serializer(mode="wrap")
    def _used_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        used = self.keys()
        return {key: value for key, value in serialize(self).items() if key in used}

    @property
    def members(self) -> list[AttackConfig]:
        """The attacks that are run: the variants of an ensemble, or the attack itself."""
        return [self]

    @property
    def depth(self) -> float:
        """The depth at which features are attacked; 1 is the model's output."""
        return 1.0

    @property
    def warm(self) -> bool:
        """Whether it starts from what it finds on the plain model."""
        return False

    @property
    def stored(self) -> Path | None:
        """The folder of a set from disk; None for attacks that craft."""
        return None

    @property
    def counts(self) -> dict[str, int | None]:
        """What says in a row of the results how much was tried; None where it does not apply."""
        return {"steps": None, "restarts": None, "queries": None}

    def scaled(self, share: float) -> Self:
        """The same attack with this share of its radius, and of its step size where it has one."""
        return self if share == 1 else self.model_copy(update={"eps": share * self.eps})

    def at_radius(self, eps: float) -> AttackConfig:
        """The same attack with an Linf radius in pixels, for a curve, and no rounding.

        Rounding to 8 bits would decide at radii near 1/255.
        """
        return self.model_copy(update={"norm": "linf", "units": "pixel", "eps": eps, "quantize": "none"})

    def by_queries(self, queries: int) -> AttackConfig:
        """Square attack within this attack's radius."""
        kept = ("norm", "eps", "units", "quantize", "target", "axis", "features")
        return read_attack({"method": "square", "queries": queries, **{key: getattr(self, key) for key in kept}})

    @property
    def label(self) -> str:
        """A name for tables: the preset or the method, with the options that were changed; variants are counted."""
        return ", ".join([self.preset or self.method, *(_words(*change) for change in self._changed())])

    @property
    def long_label(self) -> str:
        """The same with variants spelled out, where `label` does not tell two attacks apart."""
        return ", ".join([self.preset or self.method, *(_all_words(*change) for change in self._changed())])

    def _changed(self) -> list[tuple[str, Any]]:
        kind = type(self)
        usual = kind.model_validate({"preset": self.preset}) if self.preset else kind.model_construct()
        return [(key, getattr(self, key)) for key in self.keys() if getattr(self, key) != getattr(usual, key, None)]


def choose(written: Any) -> str:
    """Return the method whose section reads what was written; that of `pgd` says what is wrong with other methods."""
    if isinstance(written, AttackConfig):
        return written.method
    if not isinstance(written, Mapping):
        return DEFAULT_METHOD
    if "from" in written:
        return "from"
    method, preset = written.get("method"), written.get("preset")
    if method is None and isinstance(preset, str):
        method = PRESETS.get(preset, {}).get("method")
    return method if isinstance(method, str) and method in ATTACKS else DEFAULT_METHOD


def read_attack(written: Mapping[str, Any]) -> AttackConfig:
    """Read one attack's section on its own.

    Raises pydantic's ValidationError.
    """
    section = ATTACKS.find(choose(written)).section
    assert section is not None and issubclass(section, AttackConfig)
    return section.model_validate(written)


def _words(key: str, value: object) -> str:
    if key == "variants" and isinstance(value, list):
        return f"{len(value)} variant{'' if len(value) == 1 else 's'}"
    if key in IN_255THS:
        value = as_fraction(value)
    return f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"


def _all_words(key: str, value: object) -> str:
    if key == "variants" and isinstance(value, list):
        changes = [", ".join(_words(*change) for change in variant.model_dump().items()) for variant in value]
        return f"variants ({' | '.join(change or 'unchanged' for change in changes)})"
    return _words(key, value)
