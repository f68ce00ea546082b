"""What the tests of eval-features share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from rtok.config.schema import Config

FILES = ["config.yaml", "examples", "features.png", "per_image.csv", "results.json", "run.json", "summary.png"]
Rows = list[dict[str, Any]]


def config(settings: dict[str, Any], token_file: Path | None, **changes: Any) -> Config:
    base = {**settings, "batch_size": 4, "control_draws": 2}
    if token_file is not None:
        base["tokens"] = str(token_file)
    return Config.model_validate({**base, **changes})


def rows_of(results: dict[str, Any], **wanted: Any) -> Rows:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def per_image(out: Path) -> list[dict[str, str]]:
    with (out / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_rows(one: Path, two: Path) -> None:
    first, second = per_image(one), per_image(two)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            if key in (
                "cosine",
                "cosine_to_plain",
                "cosine_to_plain_alone",
                "mse",
                "cosine_cls",
                "cosine_cls_to_plain",
                "cosine_token",
                "cosine_to_plain_token",
            ):
                assert float(b[key]) == pytest.approx(float(value), abs=1e-3), (a["image"], key)
            elif key in ("fidelity", "fidelity_token", "image_linf_255"):
                assert float(b[key]) == pytest.approx(float(value), abs=1e-5), (a["image"], key)
            else:
                assert b[key] == value
