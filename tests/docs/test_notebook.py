"""The notebook runs from its first cell to its last, and is shipped without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT

NOTEBOOK = ROOT / "docs" / "first-hour.ipynb"


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_runs_on_small_images(
    weights: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, *rest = cells()
    assert first["metadata"]["tags"] == ["parameters"]
    names: dict[str, Any] = {}
    exec("".join(first["source"]), names)
    assert set(names) - {"__builtins__"} == {"WEIGHTS", "PHOTOS", "SIZE", "STEPS"}
    names.update(WEIGHTS=str(weights), PHOTOS=str(pictures), SIZE=28, STEPS=2)
    for number, cell in enumerate(rest):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    shown = capsys.readouterr().out
    assert names["cosine"](names["backbone"](names["adversarial"]), names["clean"]) < 0.99
    assert "transfer   plain" in shown and "adaptive   robust" in shown


def test_it_is_shipped_without_outputs() -> None:
    assert [cell for cell in cells() if cell["outputs"] or cell["execution_count"] is not None] == []
