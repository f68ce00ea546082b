"""The movement figure shows each victim's map on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.reporting.figures.features import feature_movement


def test_maps_share_a_scale_and_say_their_mean(tmp_path, drawn, images):
    generator = np.random.default_rng(1)
    maps = {
        "plain": generator.uniform(-0.23, 0.4, (3, 2, 3)),
        "random": generator.uniform(0.5, 0.7, (3, 2, 3)),
        "robust": generator.uniform(0.6, 0.9, (3, 2, 3)),
    }
    feature_movement(*images, maps, tmp_path / "features.png", ["a", "b", "c"])
    *cells, bar = drawn[0].axes
    grid = np.array(cells, dtype=object).reshape(3, 6)
    assert [axes.get_title() for axes in grid[0, 3:]] == ["plain", "random", "robust"]
    bottom = np.floor(10 * maps["plain"].min()) / 10
    for row in range(3):
        np.testing.assert_array_equal(grid[row, 1].get_images()[0].get_array().shape, (28, 42, 3))
        for axes, values in zip(grid[row, 3:], maps.values(), strict=True):
            (image,) = axes.get_images()
            np.testing.assert_allclose(image.get_array(), values[row], atol=1e-6)
            assert image.get_clim() == pytest.approx((bottom, 1.0))
            assert axes.get_xlabel() == f"mean {values[row].mean():.2f}"
    assert "cosine" in bar.get_ylabel()


def test_one_image_and_perfect_maps_still_have_a_scale(tmp_path, drawn, images):
    clean, adversarial = (part[:1] for part in images)
    feature_movement(clean, adversarial, {"robust": np.ones((1, 2, 3))}, tmp_path / "features.png")
    assert drawn[0].axes[3].get_images()[0].get_clim() == pytest.approx((0.9, 1.0))
