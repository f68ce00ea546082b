"""Runs of eval-features on a small model, and the numbers of their images."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import Batch, evaluation_batches
from rtok.data.transforms import Transform
from rtok.evaluation import evaluate_features
from rtok.models import Backbone, load_backbone


def run(small: dict[str, Any], out: Path, **changes: Any) -> dict[str, Any]:
    return evaluate_features(Config.model_validate({**small, "batch_size": 7, "out": str(out), **changes}))


def images(out: Path, **wanted: str) -> list[dict[str, str]]:
    """The rows of one victim under one threat, one per image."""
    with (out / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if all(row[k] == v for k, v in wanted.items())]
    assert len(rows) == 7
    return rows


def column(out: Path, name: str = "cosine_to_plain", **wanted: str) -> torch.Tensor:
    """The headline of every image, or another number."""
    return torch.tensor([float(row[name]) for row in images(out, **wanted)])


def opened(small: dict[str, Any]) -> tuple[Backbone, Batch]:
    config = Config.model_validate(small)
    backbone = load_backbone("dinov2_vits14", weights=config.model.weights, image_size=28)
    source = open_source(config.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=7, seed=0)
    return backbone, batch
