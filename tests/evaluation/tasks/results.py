"""What the tests of all tasks read of a run: its rows, and the numbers of its images."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


def rows_of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def per_image(out: Path) -> list[dict[str, str]]:
    return table(out / "per_image.csv")


def assert_same_rows(one: Path, two: Path) -> None:
    """Compare what two runs wrote for every image, to the last digit: on a CPU in fp32 nothing may differ."""
    for a, b in zip(per_image(one), per_image(two), strict=True):
        assert a == b
