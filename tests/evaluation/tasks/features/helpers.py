"""What the tests of eval-features share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtok.config.schema import Config

FILES = ["config.yaml", "examples", "features.png", "per_image.csv", "results.json", "run.json", "summary.png"]
Rows = list[dict[str, Any]]


def config(settings: dict[str, Any], token_file: Path | None, **changes: Any) -> Config:
    base = {**settings, "batch_size": 4, "control_draws": 2}
    if token_file is not None:
        base["tokens"] = str(token_file)
    return Config.model_validate({**base, **changes})
