"""Attacked images picture by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rtok.reporting.figures.pieces import write_pieces
from rtok.reporting.report.checked import read_examples


def test_every_view_is_a_picture_that_the_report_finds(tmp_path: Path) -> None:
    clean = np.full((2, 3, 4, 6), 0.5, dtype=np.float32)
    adversarial = clean.copy()
    adversarial[1, 0, 0, 0] += 8 / 255
    maps = {"plain": np.array([[[1.0, 0.25]], [[0.5, 0.5]]])}
    write_pieces(clean, adversarial, tmp_path, ["a.png", "b.png"], maps)
    found = read_examples(tmp_path / "examples" / "examples.json", Path.is_file)
    assert found is not None and [title for title, _ in found.items] == ["a.png", "b.png"]
    views = {view.title: view for view in found.items[1][1]}
    assert list(views) == ["clean", "adversarial", "change", "features, plain"]
    assert views["adversarial"].note == "at most 8.0 of 255"
    pixels = {title: np.asarray(Image.open(view.path)) for title, view in views.items()}
    assert pixels["clean"].shape == (4, 6, 3) and (pixels["clean"] == 128).all()
    assert pixels["adversarial"][0, 0].tolist() == [136, 128, 128]
    assert pixels["change"][0, 0, 0] > 200 and pixels["change"][1, 1, 0] == 128
    assert pixels["features, plain"].shape == (1, 2, 3)
    heat = np.asarray(Image.open(found.items[0][1][3].path))
    assert heat[0, 0].tolist() == [253, 231, 37]  # 1 is the end of viridis
    assert views["features, plain"].note == "mean 0.50; dark 0.2, yellow 1"
