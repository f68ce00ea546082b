"""The example figure shows the images it was given."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.reporting.figures.examples import adversarial_examples


def shown(axes):
    return axes.get_images()[0].get_array()


@pytest.mark.parametrize("n", [1, 3])
def test_clean_adversarial_and_change_stand_in_columns(tmp_path, drawn, images, n):
    clean, adversarial = (part[:n] for part in images)
    titles = ["a.png", "b.png", "photos/with/a/very/long/name.png"][:n]
    adversarial_examples(clean, adversarial, tmp_path / "examples.png", titles)
    grid = np.array(drawn[0].axes, dtype=object).reshape(3, n)
    for column in range(n):
        np.testing.assert_array_equal(shown(grid[0, column]), clean[column].transpose(1, 2, 0))
        np.testing.assert_array_equal(shown(grid[1, column]), adversarial[column].transpose(1, 2, 0))
        change = 0.5 + 20 * (adversarial[column] - clean[column]).transpose(1, 2, 0)
        np.testing.assert_allclose(shown(grid[2, column]), change, atol=1e-6)
        assert grid[2, column].get_xlabel() == "at most 4.0 of 255"
        assert titles[column].endswith(grid[0, column].get_title().lstrip("…"))
    assert grid[2, 0].get_ylabel() == "change × 20\n(gray: none)"  # noqa: RUF001
    assert (tmp_path / "examples.png").stat().st_size > 0
