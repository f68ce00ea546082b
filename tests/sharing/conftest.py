"""A run that takes a second, with a private defense and one that is not, in files whose folders nobody should know."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rtok.config.defenses import LoRAConfig, TokensConfig
from rtok.config.schema import Config
from rtok.defenses import Defense
from rtok.defenses.lora import LoRA
from rtok.defenses.tokens import RobustnessTokens
from rtok.evaluation import evaluate_features
from rtok.models import registry
from tests.tiny import tiny_maker


@dataclass(frozen=True)
class World:
    """What the tests share: a config of eval-features, the files of two defenses, and a run that measured both."""

    folder: Path
    config: dict[str, Any]
    files: dict[str, Path]
    run: Path


@pytest.fixture(scope="module")
def world(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    model = tiny_maker(folder)("dinov2_vits14")
    config = {
        "model": {"name": "dinov2_vits14", "weights": str(model.path), "image_size": 28},
        "data": {"name": "folder", "root": str(pictures), "workers": 0},
        "attack": {"preset": "standard", "steps": 2},
        "threats": ["transfer", "adaptive"],
        "control_draws": 1,
        "sanity": {"images": 0},
    }
    backbone, noise, files = model.load(image_size=28), torch.Generator().manual_seed(5), {}
    for kind, settings in ((RobustnessTokens, TokensConfig(count=3)), (LoRA, LoRAConfig(rank=2))):
        start: Defense = kind.create(settings, backbone, 0)
        moved = {
            name: values + 0.3 * torch.randn(values.shape, generator=noise)
            for name, values in start.parameters().items()
        }
        trained = {**config, "defense": {"kind": start.kind}, "train": {"steps": 4, "batch_size": 8}}
        about: dict[str, Any] = {"fingerprint": backbone.fingerprint(), "seen": frozenset(["0123abcd"])}
        files[start.kind] = folder / "secret" / f"{start.stem}.safetensors"
        files[start.kind].parent.mkdir(exist_ok=True)
        replace(start.replaced(moved), config=trained, **about).save(files[start.kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BY_NAME, "dinov2_vits14", model.spec)
        measured = {**config, "defense": list(map(str, files.values())), "out": str(folder / "run")}
        yield World(folder, config, files, evaluate_features(Config.model_validate(measured)).out)


@pytest.fixture
def measured(world: World, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(world.run, tmp_path / "run"))
