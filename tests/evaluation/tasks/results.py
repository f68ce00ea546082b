"""What the tests of all tasks read of a run: its rows, and the numbers of its images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def rows_of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def per_image(out: Path) -> list[dict[str, str]]:
    return table(out / "per_image.csv")


def assert_same_rows(one: Path, two: Path, tolerance: Callable[[str], float | None]) -> None:
    """Compare the images of two runs; `tolerance` of a column is None where it must be equal."""
    first, second = per_image(one), per_image(two)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            allowed = tolerance(key)
            if allowed is None:
                assert b[key] == value, (a["image"], key)
            else:
                assert float(b[key]) == pytest.approx(float(value), abs=allowed), (a["image"], key)
