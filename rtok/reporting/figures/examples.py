"""Adversarial examples: clean image, adversarial image, what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtok.reporting.figures.canvas import CHANGE, INK, amplified, image_grid, pixels, save, shortened, show_image


def adversarial_examples(clean: Any, adversarial: Any, path: Path, titles: Sequence[str] | None = None) -> None:
    """Draw one column per image: clean, adversarial, and the perturbation amplified around gray.

    Args:
        clean, adversarial: (n, 3, H, W) in [0, 1]; a handful of images, all of them are drawn.
        path: the PNG to write.
        titles: one line over each column, for example the image's key.

    The label below each column is the largest change of a pixel, in levels of 255.
    """
    clean, adversarial = pixels(clean), pixels(adversarial)
    n, _, height, width = clean.shape
    change, factor = amplified(clean, adversarial)
    figure, grid = image_grid(3, n, height, width)
    labels = ("clean", "adversarial", CHANGE.format(factor))
    for row, (images, label) in enumerate(zip((clean, adversarial, change), labels, strict=True)):
        for column in range(n):
            show_image(grid[row, column], images[column])
        grid[row, 0].set_ylabel(label, fontsize=10, color=INK)
    for column, largest in enumerate(np.abs(adversarial - clean).max(axis=(1, 2, 3)) * 255):
        grid[2, column].set_xlabel(f"at most {largest:.1f} of 255", fontsize=9, color=INK)
        if titles is not None:
            grid[0, column].set_title(shortened(titles[column]), fontsize=9, color=INK)
    save(figure, path)
