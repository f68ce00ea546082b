"""The `head` section: what turns features into predictions, and which features it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rtok.config.types import (
    BY_SHAPE,
    Count,
    FilePath,
    Listed,
    Mapped,
    Positive,
    Section,
    Single,
    SmallCount,
    UniqueList,
    broken_rule,
)

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

# The keys that mean something for each type of head.
_KEYS = {
    "linear": ("type", "path", "features", "classifier", "split", "limit"),
    "mmseg": ("type", "path", "features"),
    "fit": ("type", "features", "split", "limit", "l2", "steps", "batch_size"),
    "backbone": ("type", "features"),
}


class HeadFiles(Section):
    """The files of two heads: one fitted on plain features, one on robust features."""

    plain: FilePath = Field(description="The head that was fitted on plain features.")
    robust: Annotated[Listed[UniqueList[FilePath]] | Single[FilePath], BY_SHAPE] | None = Field(
        None,
        description="The head that was fitted on robust features; a list has one per defense file, in the same order.",
    )


class HeadConfig(Section):
    """The head on top of the features."""

    type: Literal["linear", "mmseg", "fit", "backbone"] = Field(
        "linear",
        description="`linear`: linear heads from files; `mmseg`: segmentation heads from files; `fit`: fit "
        "linear heads on clean features; `backbone`: the model's own classifier (DeiT-III).",
    )
    path: Annotated[Mapped[HeadFiles] | Single[FilePath], BY_SHAPE] | None = Field(
        None,
        description="`linear`, `mmseg`: the file of a head that was fitted on plain features, or "
        "`{plain: FILE, robust: FILE}`: published by DINOv2 (also `model_final.pth`), trained by mmseg, or "
        "saved by `fit`.",
    )
    features: Literal["plain", "robust", "both"] = Field(
        "both",
        description="Which heads robust victims and their control use: the one fitted on plain features, one fitted "
        "on the victim's own features, or both. Plain victims always use the plain one.",
    )
    classifier: str | None = Field(
        None,
        description="`linear`: which classifier of a `model_final.pth`; `best` chooses by the accuracies stored beside "
        "the file, otherwise on `head.split`.",
    )
    split: Literal["train", "val", "test"] = Field(
        "train",
        description="The part of the data that `fit` fits on and `best` may choose on; it must differ from "
        "`data.split`.",
    )
    limit: Count | None = Field(None, description="Use this many images of `head.split`. Null: all.")
    l2: UniqueList[Positive] = Field(
        [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        description="`fit`, `eval-class`: candidate strengths of the L2 penalty, compared on a held-out "
        "fifth of the images.",
    )
    steps: Count = Field(40_000, description="`fit`, `eval-seg`: iterations of the training (DINOv2's recipe: 40,000).")
    batch_size: SmallCount = Field(16, description="`fit`, `eval-seg`: crops per iteration (DINOv2's recipe: 16).")

    @model_validator(mode="before")
    @classmethod
    def _refuse_idle_keys(cls, written: Any) -> Any:
        if isinstance(written, Mapping):
            kind = written.get("type", "linear")
            used = _KEYS.get(kind, ()) if isinstance(kind, str) else ()
            idle = [key for key in written if used and key in cls.model_fields and key not in used]
            if idle:
                raise broken_rule(f"type {kind} does not use {', '.join(idle)}; it uses {', '.join(used)}")
        return written

    @model_validator(mode="after")
    def _check_files(self) -> HeadConfig:
        reads_files = self.type in ("linear", "mmseg")
        if reads_files and self.path is None:
            raise broken_rule(f"path is missing: type {self.type} needs the head's file")
        lacks_robust = self.type == "backbone" or (reads_files and not self.robust_files)
        if self.features == "robust" and lacks_robust:
            raise broken_rule(
                "features is robust, but there is no head fitted on robust features: write "
                "path: {plain: FILE, robust: FILE}, or type: fit"
            )
        return self

    @model_serializer(mode="wrap")
    def _drop_idle_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if key in _KEYS[self.type]}

    @property
    def plain_file(self) -> Path | None:
        """The file of the head that was fitted on plain features."""
        return self.path.plain if isinstance(self.path, HeadFiles) else self.path

    @property
    def robust_files(self) -> list[Path]:
        """The files of the heads that were fitted on robust features: none, or one per defense file."""
        files = self.path.robust if isinstance(self.path, HeadFiles) else None
        return files if isinstance(files, list) else [files] if files else []

    @property
    def robust_victims(self) -> tuple[str, ...]:
        """Which heads the robust victims use: `plain`, `robust` or both."""
        available = ("plain", "robust") if self.type == "fit" or self.robust_files else ("plain",)
        return available if self.features == "both" else (self.features,)

    @property
    def control_victims(self) -> tuple[str, ...]:
        """The same of the control: its own heads have to be fitted, since files hold those of trained defenses."""
        return tuple(head for head in self.robust_victims if head == "plain" or self.type == "fit")

    def images(self, data: DataConfig) -> DataConfig:
        """The images of `split`, of the same data."""
        return data.model_copy(update={"split": self.split, "limit": self.limit, "limit_per_group": None})

    @property
    def reads_split(self) -> bool:
        """Whether images of `split` may be needed."""
        return self.type == "fit" or self.classifier == "best"
