"""What the tests of eval-class share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.models import Backbone, load_backbone

HEADS = ["control-1-0", "control-1-1", "plain", "robust"]
FILES = ["config.yaml", "examples", "examples.png", "heads", "per_image.csv", "results.json", "run.json", "summary.png"]
ATTACK = {"preset": "standard", "eps": "12/255", "steps": 3}
AUTO = {"preset": "autoattack", "eps": "12/255", "quantize": "round", "version": "custom", "attacks": ["apgd-ce"]}
# One of each method; how many images a process has at a time must not matter to any.
EVERY_ATTACK = [
    ATTACK,
    AUTO,
    {"method": "apgd", "eps": "12/255", "steps": 4},
    {"method": "square", "eps": "12/255", "queries": 12},
]
COLORS = {"blue": (60, 70, 160), "green": (70, 150, 80), "red": (150, 70, 70)}


def save_tokens(path: Path, count: int = 3, dim: int = 64, seed: int = 0) -> str:
    """Tokens large enough to change the features; eval does not care that nobody trained them."""
    RobustnessTokens.draw(count, dim, std=0.5, seed=seed, backbone="dinov2_vits14").save(path)
    return str(path)


def load(model: dict[str, Any]) -> Backbone:
    return load_backbone(model["name"], weights=model["weights"], image_size=28)


def config(settings: dict[str, Any], **changes: Any) -> Config:
    return Config.model_validate({**settings, **changes})


def without_own_heads(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without those of controls with a head of their own, which files of heads do not hold."""
    return [row for row in results["rows"] if (row["victim"], row["head_features"]) != ("random", "robust")]


def features(backbone: Any, images: Tensor, tokens: Tensor | None = None) -> Tensor:
    found = backbone(images, tokens)
    return torch.cat([found[:, 0], found[:, 1:].mean(1)], 1)
