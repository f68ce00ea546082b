"""The benchmark of kinds runs, and its table has a line for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.kinds import main
from rtok.config.registry import DEFENSES


def test_every_kind_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--model", "timm:test_vit", "--image-size", "32", "--batch", "2", "--steps", "1", "--repeats", "1"]
    main([*small, "--out", str(tmp_path / "kinds.json")])
    rows = {row["kind"]: row for row in json.loads((tmp_path / "kinds.json").read_text())["rows"]}
    assert set(rows) == set(DEFENSES)
    # both moments of Adam and the gradient of each parameter beside the parameters themselves
    assert all(row["peak_bytes"] > 4 * 4 * row["parameters"] for row in rows.values())
    assert rows["weights"]["parameters"] == 306_240
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    assert len(lines) == len(rows) and lines[0].split("|")[4].strip() == lines[0].split("|")[6].strip() == "1.00"
