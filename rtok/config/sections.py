"""The sections about the model and the data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationInfo, field_validator

from rtok.config import datasets as datasets  # registers them
from rtok.config.defenses import DefensePath
from rtok.config.registry import DATASETS, NameIn
from rtok.config.types import (
    BY_SHAPE,
    Count,
    FilePath,
    Index,
    Listed,
    Mapped,
    Real,
    Section,
    Single,
    SmallCount,
    broken_rule,
    expected,
    parse_path,
)
from rtok.errors import UserError, listed
from rtok.models.locations import check_location, is_location
from rtok.models.registry import find


def _path_or(word: str) -> BeforeValidator:
    """Read a path, unless it is the one word with a meaning of its own."""
    return BeforeValidator(lambda value: value if value == word else parse_path(value))


def _weights(value: object) -> str | Path:
    """Read `pretrained`, a place such as `hf-hub:USER/REPO`, or a path."""
    if isinstance(value, str) and is_location(value):
        try:
            check_location(value)
        except UserError as error:
            raise broken_rule(str(error)) from None
        return value
    return "pretrained" if value == "pretrained" else parse_path(value)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _known_model(name: str) -> str:
    try:
        find(name)
    except UserError as error:
        raise broken_rule(str(error)) from None
    return name


class ModelConfig(Section):
    """The backbone."""

    name: str = Field(description="A name that `rtok models` lists.", strict=True)
    weights: Annotated[str | Path, BeforeValidator(_weights)] = Field(
        "pretrained",
        description="`pretrained` downloads through timm; or a `.pth`, `.pt` or `.safetensors` file with "
        "DINOv2, timm or transformers names: its path, `local-dir:DIR` for the one in a folder, or "
        "`hf-hub:USER/REPO[@REVISION][:FILE]` (`hf:` for short) for one on the Hugging Face hub.",
    )
    image_size: Annotated[Listed[tuple[SmallCount, SmallCount]] | Single[SmallCount], BY_SHAPE] = Field(
        224,
        validate_default=True,
        description="Side of the square input in pixels, or `[height, width]`: multiples of the model's patch size.",
    )
    normalization: Literal["auto", "imagenet"] = Field(
        "auto",
        description="The weights' own mean and standard deviation, or ImageNet's for every family, as in the paper.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known_model(name)

    @field_validator("image_size")
    @classmethod
    def _divisible(cls, size: int | tuple[int, int], info: ValidationInfo) -> int | tuple[int, int]:
        if "name" in info.data:
            patch = find(info.data["name"]).patch_size
            if any(side % patch for side in _sides(size)):
                near = max(patch, round(_sides(size)[0] / patch) * patch)
                raise expected(f"multiples of {patch}, the patch size of {info.data['name']}, such as {near}")
        return size

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return _sides(self.image_size)


class SurrogateConfig(Section):
    """The model that `transfer` crafts on."""

    model: Annotated[Mapped[ModelConfig] | Single[str], BY_SHAPE] = Field(
        "same", description="`same`, a model's name, or a section like `model`."
    )
    defense: DefensePath | None = Field(
        None,
        validation_alias=AliasChoices("defense", "tokens"),
        description="The defense that the attacker has: a file that `train` wrote, or `hf:USER/REPO`.",
    )
    head: Annotated[Literal["same"] | Path, _path_or("same")] = Field(
        "same", description="The head to attack through: `same`, or a file."
    )

    @field_validator("model")
    @classmethod
    def _known(cls, model: ModelConfig | str) -> ModelConfig | str:
        return model if isinstance(model, ModelConfig) or model == "same" else _known_model(model)


class DataConfig(Section):
    """The images."""

    name: Annotated[str, NameIn(DATASETS)] = Field(description=f"The data set. {DATASETS.described()}.")
    root: FilePath | None = Field(
        None, validate_default=True, description="The folder of the data set; `photos` and `digits` come with packages."
    )
    repo: str | None = Field(
        None,
        validate_default=True,
        description="`hf`: the id of a data set on the Hugging Face hub, such as `USER/NAME`, instead of `root`, which "
        "is a folder that `save_to_disk` wrote or of parquet files.",
    )
    subset: str | None = Field(None, description="`hf`: which of the configurations of the data set.")
    image_column: str | None = Field(None, description="`hf`: the column of images. Null: the only one.")
    label_column: str | None = Field(
        None, description="`hf`: the column of labels, numbers or names. Null: the only one of classes, or none."
    )
    extra: FilePath | None = Field(
        None, description="`imagenet`: the folder that `rtok prepare-imagenet --extra` wrote to. Null: the root."
    )
    split: Literal["train", "val", "test"] = Field(
        "train",
        description="The part of the data set. A `folder` that has no folders for splits (`Train`, `valid`, `test_set` "
        "count too) and no `holdout` has only one part.",
    )
    holdout: Annotated[Real, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Hold out this share of a data set that has no splits: `train` is the rest, `val` and `test` are "
        "the share. The same images in every run, whatever the seed.",
    )
    resize: Literal["squash", "crop", "random-crop"] = Field(
        "squash",
        description="`squash`: to the input size, whatever the shape (the paper's). `crop`: short side to"
        " 256/224 of the size, then the center. `random-crop`: for training only.",
    )
    limit: Count | None = Field(None, description="Use this many images. Null: all.")
    limit_per_group: Count | None = Field(
        None,
        description="Use at most this many images of one class, or in data without classes of one photo. Null: all.",
    )
    streaming: bool = Field(
        False,
        description="`hf`: read the first `limit` rows as they come, and nothing else of the data set. Without it, "
        "`limit` chooses evenly over the classes, for which all of it is downloaded.",
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What to do with a file that cannot be decoded; skipped files are counted."
    )
    verify: Literal["times", "bytes"] = Field(
        "times",
        description="How `--resume` notices images that have changed: by size and time, or by reading every file.",
    )
    workers: Annotated[Index, Field(le=1024)] | None = Field(
        None,
        description="Processes that decode images, for each process of the run. 0: the run itself decodes. Null: as "
        "many as the run may use cores, at most 8.",
    )

    @field_validator("root")
    @classmethod
    def _needed(cls, root: Path | None, info: ValidationInfo) -> Path | None:
        name = info.data.get("name")
        if root is None and name is not None and "root" in DATASETS.find(name).traits:
            raise broken_rule(f"is missing: data set '{name}' needs its folder")
        return root

    @field_validator("repo")
    @classmethod
    def _root_or_repo(cls, repo: str | None, info: ValidationInfo) -> str | None:
        if "name" in info.data and "root" in info.data:
            takes = "repo" in DATASETS.find(info.data["name"]).traits
            if repo is not None and not takes:
                valid = [entry.name for entry in DATASETS.entries() if "repo" in entry.traits]
                raise broken_rule(f"is for {listed(valid)}: write data.root")
            if takes and (repo is None) == (info.data["root"] is None):
                raise broken_rule("or data.root, one of them: an id on the hub, or a local folder")
        return repo

    @field_validator("streaming")
    @classmethod
    def _has_an_end(cls, streaming: bool, info: ValidationInfo) -> bool:
        valid = [entry.name for entry in DATASETS.entries() if "repo" in entry.traits]
        if streaming and info.data.get("name", valid[0]) not in valid:
            raise broken_rule(f"is for {listed(valid)}: '{info.data['name']}' reads only what it needs")
        if streaming and info.data.get("limit") is None:
            raise broken_rule("needs data.limit: how many rows to read")
        return streaming

    @field_validator("holdout")
    @classmethod
    def _divides(cls, holdout: float | None, info: ValidationInfo) -> float | None:
        valid = [entry.name for entry in DATASETS.entries() if "holdout" in entry.traits]
        if holdout is not None and info.data.get("name", valid[0]) not in valid:
            raise broken_rule(f"is for {listed(valid)}: '{info.data['name']}' has splits of its own")
        return holdout

    @property
    def worker_count(self) -> int:
        """`workers`, or what this machine has cores for."""
        return min(8, len(os.sched_getaffinity(0))) if self.workers is None else self.workers


class AnalysisConfig(Section):
    """Measurements besides the results."""

    activations: bool = Field(
        False,
        description="`eval-features`: write the largest activation after each block, clean and adversarial, for every "
        "victim to `activations.csv` and `activations.png`.",
    )
    images: Count = Field(64, description="Measure on this many images, the first of the data.")
