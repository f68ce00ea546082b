"""The benchmark of many images runs, and its table has a column for each number of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import scale


def test_every_part_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(part: str, images: int) -> dict[str, float]:  # without a process of its own, which takes seconds to start
        folder = tmp_path / f"{part}-{images}"
        folder.mkdir()
        return scale.PARTS[part](images, folder)

    monkeypatch.setattr(scale, "_alone", alone)
    monkeypatch.setattr(scale.SetWriter, "write", scale.SetWriter.write)  # it is put back behind the test
    scale.main(["--images", "70", "140", "--out", str(tmp_path / "scale.json")])
    *rows, encoding = json.loads((tmp_path / "scale.json").read_text())["rows"]
    assert [(row["part"], row["images"]) for row in rows] == [
        (part, n) for part in ("data", "attack", "results", "retrieval") for n in (70, 140)
    ]
    assert all(row["peak MiB"] >= 0 for row in rows)
    assert all(0 < row["of it, write images"] < row["attack"] for row in rows if row["part"] == "attack")
    assert encoding["rtok, ms"] < encoding["Pillow, ms"]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert table[0] == "| part | step | 70 images | 140 images |" and len(table) == 2 + 4 + 5 + 4 + 2

    lines = (tmp_path / "results-70" / "per_image.csv").read_text().splitlines()
    assert len(lines) == 1 + 10 * 70
