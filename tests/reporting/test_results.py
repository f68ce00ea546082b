"""The results object: rows, a data frame, a figure, a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rtok.errors import UserError
from rtok.reporting.results import Results

ROWS: list[dict[str, Any]] = [
    {"attack": "a<b>", "threat": "transfer", "victim": victim, "defense": None, "cosine_to_plain": value, "ci95": ci95}
    for victim, value, ci95 in (("plain", 0.25, {"cosine_to_plain": [0.2, 0.3]}), ("robust", 0.75, None))
]
CONTENT = {"command": "eval-features", "images": 3, "rows": ROWS}


def test_it_is_the_content_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(CONTENT))
    found = Results.load(tmp_path)
    assert (found["images"], found.out, found.main_column) == (3, tmp_path, "cosine_to_plain")
    assert [row["cosine_to_plain"] for row in found.rows] == [0.25, 0.75]
    with pytest.raises(UserError, match="cannot be read"):
        Results.load(tmp_path / "nothing")


def test_a_data_frame_has_a_column_for_each_end_of_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    first, second = Results(CONTENT, tmp_path).to_pandas()
    assert (first["cosine_to_plain_low"], first["cosine_to_plain_high"], first["victim"]) == (0.2, 0.3, "plain")
    assert "ci95" not in first and "cosine_to_plain_low" not in second
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        Results(CONTENT, tmp_path).to_pandas()


def test_a_figure_of_any_measured_column(tmp_path: Path) -> None:
    results = Results(CONTENT, tmp_path)
    (axes,) = results.plot().axes
    assert [bar.get_height() for bar in axes.patches] == [0.25, 0.75]
    with pytest.raises(UserError, match=r"no column 'cosine_to_plane'\. Did you mean 'cosine_to_plain'"):
        results.plot("cosine_to_plane")


def test_a_notebook_gets_tables_without_markup_of_others(tmp_path: Path) -> None:
    page = Results(CONTENT, tmp_path)._repr_html_()
    assert "<h4>attack a&lt;b&gt;</h4>" in page and ">0.750</td>" in page and ">0.250 ± 0.050</td>" in page
    assert page.count("<tr>") == 3 and "Intervals are 95 %." in page
