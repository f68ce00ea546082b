"""From a call's arguments to the config of a command, and what the program has in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from rtok.api.models import as_backbone, normalized, section_of
from rtok.attacks.base import Attack
from rtok.config.attack import AttackConfig
from rtok.config.defenses import DefenseConfig
from rtok.config.named_files import check_files
from rtok.config.problems import report
from rtok.config.rules import check
from rtok.config.schema import Config
from rtok.config.sections import DataConfig
from rtok.config.validation import validate
from rtok.data.memory import GIVEN, MemorySource, read_memory
from rtok.defenses import Defense
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.setup import Given
from rtok.training.loop import TrainResult

Section: TypeAlias = Mapping[str, Any]
ModelLike: TypeAlias = str | Section | nn.Module
Batch: TypeAlias = Tensor | Sequence[Tensor]
Data: TypeAlias = str | Path | Section | DataConfig | Batch | Iterable[Batch]
AttackLike: TypeAlias = str | Section | AttackConfig | Attack
DefenseLike: TypeAlias = str | Path | TrainResult | Defense
Size: TypeAlias = int | tuple[int, int]

_DEFAULT_SIZE = 224


@dataclass
class Request:
    """The arguments that calls have in common, and what becomes of them.

    Attributes:
        function: the call, for messages.
        config: the sections and keys of the command's config.
        given: what stays in memory.
    """

    function: str
    out: str | Path | None = None
    config: dict[str, Any] = field(default_factory=dict)
    given: Given = field(default_factory=Given)

    @cached_property
    def scratch(self) -> Path:
        """A new folder for temporary files.

        Raises:
            UserError: there are several processes, which would each have their own.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(f"{self.function}: several processes need a common folder: give out=DIR, and files.")
        return Path(tempfile.mkdtemp(prefix="rtok-"))

    def take_data(self, data: Data, split: str, classes: int | None = None) -> MemorySource | None:
        """Put the images into the config; return them where they are in memory."""
        if isinstance(data, (str, Path)):
            self.config["data"] = {"name": "folder", "root": data}
        elif isinstance(data, (Mapping, DataConfig)):
            self.config["data"] = data
        else:
            source = read_memory(data, classes)
            self.config["data"] = {"name": GIVEN, "split": split, "workers": 0}
            self.given = Given(self.given.backbone, {**self.given.sources, split: source})
            return source
        return None

    def take_model(self, model: ModelLike, image_size: Size | None) -> None:
        """Put a name, a section or a backbone into the config.

        Raises:
            UserError: an image size for what has one, or another type.
        """
        if isinstance(model, str):
            self.config["model"] = {"name": model, "image_size": _pair(image_size or _DEFAULT_SIZE)}
            return
        if image_size is not None:
            raise UserError(f"{self.function}: image_size is for a model's name; this model has its own size.")
        if isinstance(model, Mapping):
            self.config["model"] = model
        elif isinstance(model, Backbone):
            self.config["model"] = section_of(model)
            self.given = Given(model, self.given.sources)
        else:
            raise UserError(
                f"{self.function} takes a model's name, a `model` section or a rtok.Backbone, not a "
                f"{type(model).__name__}: rtok.load_backbone returns one."
            )

    def read(self, command: str) -> Config:
        """Return the config of the command.

        Raises:
            UserError: an argument is wrong; the message names all of them.
        """
        out = self.scratch / "run" if self.out is None else self.out
        config, problems = validate({**self.config, "out": out})
        wrong = {problem.path.partition(".")[0] for problem in problems}
        broken = [*check(config, command), *check_files(config)]
        problems += [problem for problem in broken if problem.path.partition(".")[0] not in wrong]
        if problems:
            raise report(self.function, problems)
        return config


def module_backbone(
    model: nn.Module, data: Data, image_size: Size | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Backbone:
    """Return a module as a backbone for images of `image_size`; None takes the size of the tensors, or 224 pixels."""
    size = _pair(image_size or _DEFAULT_SIZE)
    first = data if isinstance(data, Tensor) else data[0] if isinstance(data, (tuple, list)) and data else None
    if image_size is None and isinstance(first, Tensor) and first.ndim == 4:
        size = (first.shape[2], first.shape[3])
    whole = normalized(model, mean, std)
    assert isinstance(whole, nn.Module)
    return whole if isinstance(whole, Backbone) else as_backbone(whole, size)


def attack_section(attack: AttackLike) -> Any:
    """Return the section of an attack: a preset's name, options, settings, or an attack that has some."""
    if isinstance(attack, str):
        return {"preset": attack}
    return attack if isinstance(attack, (Mapping, AttackConfig)) else attack.settings


def attack_sections(attacks: AttackLike | Sequence[AttackLike]) -> Any:
    """Return the section of one attack, or those of a list."""
    if isinstance(attacks, Sequence) and not isinstance(attacks, str):
        return [attack_section(one) for one in attacks]
    return attack_section(attacks)


def defense_section(defense: str | Section | DefenseConfig | None) -> Any:
    """Return the section of a defense to train: a kind's name, or options; None means the defaults."""
    if defense is None:
        return {}
    return {"kind": defense} if isinstance(defense, str) else defense


def defense_files(defense: DefenseLike | Sequence[DefenseLike] | None, request: Request) -> list[str] | None:
    """Return files and run folders; a defense in memory is saved to the request's temporary folder."""
    if defense is None:
        return None
    several = defense if isinstance(defense, Sequence) and not isinstance(defense, str) else [defense]
    files = []
    for number, one in enumerate(several, start=1):
        if isinstance(one, TrainResult):
            files.append(str(one.out))
        elif isinstance(one, Defense):
            file = request.scratch / f"{one.stem}-{number}.safetensors"
            one.save(file)
            files.append(str(file))
        else:
            files.append(str(one))
    return files


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
