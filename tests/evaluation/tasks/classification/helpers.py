"""What the tests of eval-class share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.models import Backbone, load_backbone

HEADS = ["control-1-0", "control-1-1", "plain", "robust"]
FILES = ["config.yaml", "examples", "examples.png", "heads", "per_image.csv", "results.json", "run.json", "summary.png"]
ATTACK = {"preset": "standard", "eps": "12/255", "steps": 3}
AUTO = {"preset": "autoattack", "eps": "12/255", "quantize": "round", "version": "custom", "attacks": ["apgd-ce"]}
COLOURS = {"blue": (60, 70, 160), "green": (70, 150, 80), "red": (150, 70, 70)}


def save_tokens(path: Path, count: int = 3, dim: int = 64, seed: int = 0) -> str:
    """Tokens large enough to change the features; eval does not care that nobody trained them."""
    RobustnessTokens.draw(count, dim, std=0.5, seed=seed, backbone="dinov2_vits14").save(path)
    return str(path)


def load(model: dict[str, Any]) -> Backbone:
    return load_backbone(model["name"], weights=model["weights"], image_size=28)


def config(settings: dict[str, Any], **changes: Any) -> Config:
    return Config.model_validate({**settings, **changes})


def rows_of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def without_own_heads(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without those of controls with a head of their own, which files of heads do not hold."""
    return [row for row in results["rows"] if (row["victim"], row["head_features"]) != ("random", "robust")]


def per_image(out: Path) -> list[dict[str, str]]:
    with (out / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def features(backbone: Any, images: Tensor, tokens: Tensor | None = None) -> Tensor:
    found = backbone(images, tokens)
    return torch.cat([found[:, 0], found[:, 1:].mean(1)], 1)


def assert_same_rows(one: Path, two: Path) -> None:
    first, second = per_image(one), per_image(two)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            if key.endswith("confidence"):
                assert float(b[key]) == pytest.approx(float(value), abs=2e-3), (a["image"], key)
            else:
                assert b[key] == value, (a["image"], key)
