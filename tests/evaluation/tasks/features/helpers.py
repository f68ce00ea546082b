"""What the tests of eval-features share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtok.config.schema import Config
from tests.evaluation.tasks.results import assert_same_rows

FILES = ["config.yaml", "examples", "features.png", "per_image.csv", "results.json", "run.json", "summary.png"]
NEAR = (
    "cosine",
    "cosine_to_plain",
    "cosine_to_plain_alone",
    "mse",
    "cosine_cls",
    "cosine_cls_to_plain",
    "cosine_token",
    "cosine_to_plain_token",
)
ROUNDED = ("fidelity", "fidelity_token", "image_linf_255")
TOLERANCE = {**dict.fromkeys(NEAR, 1e-3), **dict.fromkeys(ROUNDED, 1e-5)}
Rows = list[dict[str, Any]]


def config(settings: dict[str, Any], token_file: Path | None, **changes: Any) -> Config:
    base = {**settings, "batch_size": 4, "control_draws": 2}
    if token_file is not None:
        base["tokens"] = str(token_file)
    return Config.model_validate({**base, **changes})


def same_rows(one: Path, two: Path) -> None:
    assert_same_rows(one, two, TOLERANCE.get)
