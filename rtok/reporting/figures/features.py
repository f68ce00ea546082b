"""How an attack moves patch features, without and with tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtok.reporting.figures import canvas
from rtok.reporting.figures.canvas import (
    INK,
    amplified,
    bare,
    heat_bottom,
    image_grid,
    pixels,
    save,
    shortened,
    show_image,
)


def feature_movement(
    clean: Any, adversarial: Any, maps: Mapping[str, Any], path: Path, titles: Sequence[str] | None = None
) -> None:
    """Draw one row per image: clean, adversarial, amplified change, and one heat map per victim.

    Args:
        clean, adversarial: (n, 3, H, W) in [0, 1].
        maps: victim -> (n, gh, gw), per patch the cosine between the victim's features of the adversarial image
            and the plain backbone's of the clean one. All maps share one color scale; 1 means that the patch
            did not move. Each map's mean is written below it.
        path: the PNG to write.
        titles: one line beside each row.
    """
    clean, adversarial = pixels(clean), pixels(adversarial)
    heat = {victim: np.asarray(values, dtype=np.float32) for victim, values in maps.items()}
    n, _, height, width = clean.shape
    change, factor = amplified(clean, adversarial)
    bottom = heat_bottom(heat.values())

    figure, grid = image_grid(n, 3 + len(heat), height, width)
    headings = ("clean", "adversarial", canvas.CHANGE.format(factor), *heat)
    drawn = None
    for row in range(n):
        for axes, images in zip(grid[row], (clean, adversarial, change), strict=False):
            show_image(axes, images[row])
        for axes, values in zip(grid[row, 3:], heat.values(), strict=True):
            drawn = axes.imshow(values[row], vmin=bottom, vmax=1.0, cmap=canvas.SEQUENCE, interpolation="nearest")
            bare(axes)
            axes.set_xlabel(f"mean {values[row].mean():.2f}", fontsize=10, color=INK)
        if titles is not None:
            grid[row, 0].set_ylabel(shortened(titles[row]), fontsize=9, color=INK)
    for axes, heading in zip(grid[0], headings, strict=True):
        axes.set_title(heading, fontsize=10, color=INK)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=grid, aspect=14 * n, pad=0.01)
        bar.set_label("patch cosine to the\nplain clean features", fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    save(figure, path)
