"""The shared parts of the figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtok.reporting.figures.canvas import amplified, new_figure, pixels, save, shortened

ROOT = Path(__file__).resolve().parents[3]


def test_amplification_is_a_round_factor_around_grey(images):
    clean, adversarial = images
    change, factor = amplified(clean, adversarial)
    assert factor == 20  # 20 * 4 / 255 fits in half of the range, 50 * 4 / 255 does not
    np.testing.assert_allclose(change, 0.5 + 20 * (adversarial - clean), atol=1e-6)
    assert change[0, 0, 0, 0] > 0.5 > change[0, 0, 0, 1]


@pytest.mark.parametrize(("difference", "expected"), [(0, 1), (0.0099, 50), (0.011, 20), (0.5, 1), (0.9, 1)])
def test_amplification_factors(difference, expected):
    clean = np.full((1, 3, 2, 2), 0.05)
    change, factor = amplified(clean, clean + difference)
    assert factor == expected
    assert change.min() >= 0 and change.max() <= 1


def test_tensors_are_taken_and_wrong_shapes_refused():
    np.testing.assert_array_equal(pixels(torch.full((1, 3, 2, 2), 0.5)), np.full((1, 3, 2, 2), 0.5))
    with pytest.raises(ValueError, match=r"not \(3, 2, 2\)"):
        pixels(np.zeros((3, 2, 2)))


def test_shortened_keeps_the_end():
    assert shortened("photo.png") == "photo.png"
    assert shortened("train/n01440764/n01440764_10026.JPEG", 12) == "…_10026.JPEG"


def test_a_figure_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    save(new_figure(2, 2), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
    before, figure = path.read_bytes(), new_figure(3, 3)

    def torn(temporary, **_):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", torn)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]


def test_pyplot_and_torch_stay_out():
    code = (
        "import sys\n"
        "from rtok.reporting.figures import curves, examples, features, summary\n"
        "print({'matplotlib.pyplot', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
