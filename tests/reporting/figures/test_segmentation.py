"""The segmentation figure shows the maps it was given, in the classes' colors."""

from __future__ import annotations

import numpy as np

from rtok.reporting.figures.segmentation import colored, segmentation_maps

NAMES = ["sky", "sea", "sand", "ship"]
PALETTE = [(10, 20, 30), (0, 90, 200), (250, 240, 10), (255, 0, 0)]


def test_truth_stands_below_the_photo_and_attacked_below_clean(tmp_path, drawn, images):
    photo = images[0][0]
    random = np.random.default_rng(0)
    headings = ("ground truth", "plain, clean", "plain, adversarial", "robust, clean", "robust, adversarial")
    maps = {heading: random.integers(0, 3, (56, 84)) for heading in headings}
    maps["ground truth"][:5] = 255
    segmentation_maps(photo, maps, NAMES, PALETTE, tmp_path / "picture.png", title="a.png")
    grid = np.array(drawn[0].axes, dtype=object).reshape(2, 3)
    np.testing.assert_array_equal(grid[0, 0].get_images()[0].get_array(), photo.transpose(1, 2, 0))
    places = [grid[1, 0], grid[0, 1], grid[1, 1], grid[0, 2], grid[1, 2]]
    for axes, (heading, classes) in zip(places, maps.items(), strict=True):
        assert axes.get_title() == heading
        shown = axes.get_images()[0].get_array()
        for number in range(3):
            assert (shown[classes == number] == PALETTE[number]).all()
    assert (grid[1, 0].get_images()[0].get_array()[:5] == 255).all()
    (legend,) = drawn[0].legends
    assert {text.get_text() for text in legend.get_texts()} == {"sky", "sea", "sand"}  # there is no ship
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_what_is_no_class_is_white():
    colors = colored(np.array([[0, 3], [255, 4]]), PALETTE)
    assert colors.tolist() == [[[10, 20, 30], [255, 0, 0]], [[255, 255, 255], [255, 255, 255]]]
