"""The sections of a config, except `attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from rtok.config.types import (
    BY_SHAPE,
    Count,
    Few,
    FilePath,
    Index,
    Listed,
    Mapped,
    Positive,
    Section,
    Single,
    UniqueList,
    broken_rule,
    expected,
    parse_path,
)
from rtok.errors import UserError


def _path_or(word: str) -> BeforeValidator:
    """Read a path, unless it is the one word that means something else."""
    return BeforeValidator(lambda value: value if value == word else parse_path(value))


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _known_model(name: str) -> str:
    from rtok.models.registry import find

    try:
        find(name)
    except UserError as error:
        raise broken_rule(str(error)) from None
    return name


class ModelConfig(Section):
    """The backbone."""

    name: str = Field(description="A name that `rtok models` lists.", strict=True)
    weights: Annotated[Literal["pretrained"] | Path, _path_or("pretrained")] = Field(
        "pretrained",
        description="`pretrained` downloads through timm; or a `.pth`, `.pt` or `.safetensors` file with "
        "DINOv2, timm or transformers names.",
    )
    image_size: Annotated[Listed[tuple[Few, Few]] | Single[Few], BY_SHAPE] = Field(
        224,
        validate_default=True,
        description="Side of the square input in pixels, or `[height, width]`: multiples of the model's "
        "patch size.",
    )
    normalization: Literal["auto", "imagenet"] = Field(
        "auto",
        description="The weights' own mean and standard deviation, or ImageNet's for every family, as in "
        "the paper.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known_model(name)

    @field_validator("image_size")
    @classmethod
    def _divisible(cls, size: int | tuple[int, int], info: ValidationInfo) -> int | tuple[int, int]:
        from rtok.models.registry import find

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

    @property
    def height(self) -> int:
        """Of the input, in pixels."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Of the input, in pixels."""
        return self.size[1]


class TokensConfig(Section):
    """The tokens to train."""

    count: Annotated[Listed[UniqueList[Few]] | Single[Few], BY_SHAPE] = Field(
        10,
        description="How many tokens; a list trains all its counts in one run, on the same adversarial "
        "images.",
    )
    init_std: Positive = Field(0.01, description="Tokens start as this times N(0, 1).")
    seeds: UniqueList[Index] = Field([0], description="Seeds of the start; several train in one run.")

    @property
    def counts(self) -> list[int]:
        """The counts, as a list."""
        return self.count if isinstance(self.count, list) else [self.count]


class SurrogateConfig(Section):
    """The model that `transfer` crafts on."""

    model: Annotated[Mapped[ModelConfig] | Single[str], BY_SHAPE] = Field(
        "same", description="`same`, a model's name, or a section like `model`."
    )
    tokens: FilePath | None = Field(None, description="Tokens that the attacker has: a token file.")
    head: Annotated[Literal["same"] | Path, _path_or("same")] = Field(
        "same", description="The head to attack through: `same`, or a file."
    )

    @field_validator("model")
    @classmethod
    def _known(cls, model: ModelConfig | str) -> ModelConfig | str:
        return model if isinstance(model, ModelConfig) or model == "same" else _known_model(model)


class DataConfig(Section):
    """The images."""

    name: Literal["imagenet", "folder", "photos", "digits", "ade20k", "folder-seg"] = Field(
        description="`imagenet`: one folder a class; `folder`: any images, recursively; `photos`: the sample "
        "photos of scikit-image and scikit-learn; `digits`: scikit-learn's; `ade20k`: ADEChallengeData2016; "
        "`folder-seg`: `images`, `masks` and `classes.txt`.",
    )
    root: FilePath | None = Field(
        None,
        validate_default=True,
        description="The data set's folder; `photos` and `digits` come with packages.",
    )
    extra: FilePath | None = Field(
        None,
        description="`imagenet`: the folder of the files that `rtok prepare-imagenet --extra` wrote. "
        "Null: the root.",
    )
    split: Literal["train", "val", "test"] = Field(
        "train",
        description="The part of the data set. A `folder` without folders of these names is all one part.",
    )
    resize: Literal["squash", "crop", "random-crop"] = Field(
        "squash",
        description="`squash`: to the input size, whatever the shape (the paper's). `crop`: short side to"
        " 256/224 of the size, then the centre. `random-crop`: training only.",
    )
    limit: Count | None = Field(None, description="Use this many images. Null: all.")
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What to do about a file that cannot be decoded; skipped ones are counted."
    )
    workers: Index = Field(
        8,
        le=1024,
        description="Processes that decode images, for each process of the run. 0: none of their own.",
    )

    @field_validator("root")
    @classmethod
    def _needed(cls, root: Path | None, info: ValidationInfo) -> Path | None:
        if root is None and info.data.get("name") not in ("photos", "digits", None):
            raise broken_rule(f"is missing: data set '{info.data['name']}' needs its folder")
        return root


class AnalysisConfig(Section):
    """What is looked at besides the results."""

    activations: bool = Field(
        False,
        description="`eval-features`: the largest activation after each block, clean and adversarial, of every "
        "victim: `activations.csv` and `activations.png`.",
    )
    images: Count = Field(64, description="How many images it is measured on, the first of the data.")


class TrainConfig(Section):
    """The training."""

    steps: Count = Field(
        50, description="Updates of the tokens (the paper: 50 for DINOv2, 300 for DeiT-III and OpenCLIP)."
    )
    batch_size: Few = Field(8, description="Images a step, over all processes.")
    lr: Positive = Field(1e-3, description="Learning rate.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="The optimizer.")
    axis: Literal["token", "channel"] = Field(
        "token",
        description="The axis of the cosine similarity that is trained; `token` is the original code's.",
    )
    threat: Literal["transfer", "adaptive", "mixed"] = Field(
        "transfer",
        description="What the attack knows during training. `transfer`: the plain backbone only (the paper's); "
        "`adaptive`: the tokens too, as they are at each step; `mixed`: half of the images each.",
    )
    warmup_steps: Index = Field(0, description="Steps over which the learning rate rises from 0.")
    checkpoint_every: Count = Field(
        10, description="Steps between two states that `--resume` can go on from."
    )
    micro_batch: Few | None = Field(
        None,
        description="Images that pass through the model at once; less memory, same result. Null: the "
        "whole batch.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Keep one activation per block and compute the others again: much less memory, a third "
        "more work, same result.",
    )

    @field_validator("warmup_steps")
    @classmethod
    def _ends(cls, warmup_steps: int, info: ValidationInfo) -> int:
        if warmup_steps >= info.data.get("steps", warmup_steps + 1):
            raise expected(f"fewer than train.steps, {info.data['steps']}")
        return warmup_steps
