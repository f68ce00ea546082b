"""What victims see in one picture: photo, ground truth, predictions, and a legend of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from rtok.reporting.figures.canvas import INK, bare, image_grid, pixels, save, shortened, show_image

LEGEND = 24  # classes in the legend: those that cover the most pixels
IGNORED = (255, 255, 255)


def segmentation_maps(
    photo: Any,
    maps: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    path: Path,
    *,
    title: str = "",
) -> None:
    """Draw a photo and maps of its classes in two rows, the ground truth below the photo.

    Args:
        photo: (3, H, W) in [0, 1].
        maps: heading -> class of each pixel (h, w); the first is the ground truth, then come pairs that stand
            above each other, clean and adversarial. Pixels without a class are white.
        palette: one color per class, 0 to 255.
        path: the PNG to write.
    """
    image = pixels(np.asarray(photo)[None])[0]
    columns = 1 + len(maps) // 2
    _, height, width = image.shape
    figure, grid = image_grid(2, columns, height, width, size=2.6)
    show_image(grid[0, 0], image)
    grid[0, 0].set_title("photo", fontsize=10, color=INK)
    for axes, (heading, seen) in zip(list(grid.T.flat)[1:], maps.items(), strict=True):
        axes.imshow(colored(seen, palette), interpolation="nearest")
        axes.set_title(heading, fontsize=10, color=INK)
        bare(axes)
    classes = np.concatenate([each.ravel() for each in maps.values()])
    counts = np.bincount(classes[classes < len(palette)], minlength=len(palette))
    shown = [number for number in np.argsort(-counts, kind="stable")[:LEGEND].tolist() if counts[number]]
    handles = [
        Patch(facecolor=np.divide(palette[n], 255), edgecolor=INK, linewidth=0.4, label=class_names[n]) for n in shown
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * columns, fontsize=8, frameon=False)
    figure.suptitle(shortened(title, 100), fontsize=9, color=INK)
    save(figure, path)


def colored(classes: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return the colors (h, w, 3) of classes (h, w), 0 to 255."""
    table = np.full((256, 3), IGNORED, dtype=np.uint8)
    table[: len(palette)] = palette
    return table[classes.astype(np.int64)]
