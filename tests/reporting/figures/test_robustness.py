"""The robustness curve: a panel a threat, a line a victim, the clean image at radius zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.axes import Axes

from rtok.reporting.figures.robustness import robustness_curve
from rtok.results.columns import main_column

COSINE = main_column("eval-features")


def test_every_victim_has_its_line(curve_rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    plot = Axes.plot

    def spy(self, x, y, *style, **options):
        drawn.append((options["label"], [round(v, 6) for v in x], [round(v, 6) for v in y]))
        return plot(self, x, y, *style, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    robustness_curve(curve_rows, tmp_path / "curve.png", COSINE)
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert drawn == [
        ("plain", [0, 1, 2], [1.0, 0.8, 0.7]),
        ("robust", [0, 1, 2], [0.912, 0.8, 0.7]),
        ("robust", [0, 1, 2], [0.912, 0.8, 0.7]),
        ("plain, transfer", [0, 1, 2], [1.0, 0.8, 0.7]),
    ]


def test_without_values_there_is_no_figure(curve_rows, tmp_path: Path) -> None:
    robustness_curve([row | {"cosine_to_plain": None} for row in curve_rows], tmp_path / "c.png", COSINE)
    assert not (tmp_path / "c.png").exists()
