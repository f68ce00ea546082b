"""`rtok.train`: from a backbone and images to a defense."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from typing_extensions import Unpack

from rtok.api.request import AttackLike, Data, ModelLike, Request, Section, Size, attack_section, defense_section
from rtok.config.defenses import DefenseConfig
from rtok.config.schema import Config
from rtok.errors import UserError
from rtok.runs.run import RunOptions
from rtok.training.loop import TrainResult
from rtok.training.loop import train as run_training


@overload
def train(model: Config, /, **options: Unpack[RunOptions]) -> TrainResult: ...
@overload
def train(
    model: ModelLike,
    /,
    data: Data,
    *,
    defense: str | Section | DefenseConfig | None = ...,
    attack: AttackLike = ...,
    image_size: Size | None = ...,
    seed: int = ...,
    precision: str = ...,
    compile: bool | str = ...,
    tracking: str = ...,
    out: str | Path | None = ...,
    resume: bool = ...,
    overwrite: bool = ...,
    **options: Any,
) -> TrainResult: ...
def train(
    model: Config | ModelLike,
    /,
    data: Data | None = None,
    *,
    defense: str | Section | DefenseConfig | None = None,
    attack: AttackLike = "paper",
    image_size: Size | None = None,
    seed: int = 0,
    precision: str = "fp32",
    compile: bool | str = False,
    tracking: str = "none",
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> TrainResult:
    """Train a defense for a backbone on images: `rtok.train(backbone, "photos", steps=50)`.

    Args:
        model: a name that `rtok models` lists, a `model` section, or a `rtok.Backbone`; a `rtok.Config` instead holds
            all settings, and only `resume` and `overwrite` may be given besides.
        data: a folder, a `data` section, a tensor (N, 3, H, W) of floats in [0, 1] or 8-bit values, a pair of such
            images and labels, or a data loader, which is read once into memory.
        defense: a kind's name, or a `defense` section such as `{"count": 10}`; None means tokens.
        attack: a preset's name, an `attack` section, or an attack such as `rtok.PGD(steps=5)`.
        image_size: pixels, one number or (height, width), for a model's name; None means 224.
        seed, precision, compile, tracking: as in a config.
        out: the run's folder; None makes a temporary one.
        resume, overwrite: continue or replace the run in `out`.
        options: keys of the `train` section, such as `steps`, `batch_size` and `lr`.

    Raises:
        UserError: an argument is wrong; nothing has been written then.
    """
    if isinstance(model, Config):
        if data is not None:
            raise UserError("rtok.train takes either a Config, which names its data, or a model and data.")
        return run_training(model, resume=resume, overwrite=overwrite, **options)
    if data is None:
        raise UserError("rtok.train needs images: rtok.train(model, data), such as a folder or a tensor (N, 3, H, W).")
    request = Request("rtok.train", out)
    request.take_model(model, image_size)
    request.take_data(data, "train")
    request.config |= {
        **{"defense": defense_section(defense), "attack": attack_section(attack), "train": options},
        **{"seed": seed, "precision": precision, "compile": compile, "tracking": tracking},
    }
    return run_training(request.read("train"), request.given, resume=resume, overwrite=overwrite)
