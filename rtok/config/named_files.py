"""The files and folders that a config names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rtok.config.problems import Problem
from rtok.config.schema import Config
from rtok.config.sections import ModelConfig
from rtok.config.threats import GuessedConfig
from rtok.files import where
from rtok.models.locations import folder_of, is_on_hub


def named_files(config: Config) -> list[tuple[str, Path]]:
    """Return every file and folder that the config names, with its key."""
    named: list[tuple[str, Path | str | None]] = [
        ("model.weights", _on_disk(config.model)),
        ("data.root", config.data.root),
        ("data.extra", config.data.extra),
        ("surrogate.defense", config.surrogate.defense),
        ("surrogate.head", config.surrogate.head if config.surrogate.head != "same" else None),
        *(("defense", path) for path in config.defense_paths),
        *(("guessed", path) for path in config.guessed_paths),
        *(("attack.from", attack.stored) for attack in config.attacks),
    ]
    if isinstance(config.guessed, GuessedConfig) and config.guessed.data:
        named.append(("guessed.data.root", config.guessed.data.root))
    if config.head:
        named += [("head.path", path) for path in (config.head.plain_file, *config.head.robust_files)]
    if isinstance(config.surrogate.model, ModelConfig):
        named.append(("surrogate.model.weights", _on_disk(config.surrogate.model)))
    return [(key, Path(path)) for key, path in named if path is not None]


def _on_disk(model: ModelConfig) -> Path | None:
    """Return the file or folder of a model's weights; None where they are downloaded."""
    return model.weights if isinstance(model.weights, Path) else folder_of(model.weights)


def check_files(config: Config) -> Iterator[Problem]:
    """Every file and folder that the config names must exist, but for those of the hub, which are fetched."""
    for key, path in named_files(config):
        if not is_on_hub(path) and not path.exists():
            yield Problem(key, f"{path} does not exist{where(path)}")
