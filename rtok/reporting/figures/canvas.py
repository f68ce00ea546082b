"""What the figures share: palette, axes, saving.

Figures are objects of their own; pyplot and its global state are not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from rtok.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito 2008: distinguishable with every common kind of color blindness, and in gray.
VERMILION, ORANGE, BLUE, GREEN, GRAY, INK = "#D55E00", "#E69F00", "#0072B2", "#009E73", "#8A8A8A", "#222222"
VICTIM_COLORS = {"plain": VERMILION, "random": ORANGE, "robust": BLUE}
# Perceptually even and safe with color blindness, for ordered series and heat maps.
SEQUENCE = "viridis"
DPI = 160
# The heading of an amplified perturbation, as `amplified` draws it.
CHANGE = "change \N{MULTIPLICATION SIGN} {}\n(gray: none)"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of this size in inches, which lays itself out."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def image_grid(rows: int, columns: int, height: int, width: int, size: float = 1.8) -> tuple[Figure, Any]:
    """Return a figure with (rows, columns) axes for images of height x width pixels, `size` inches wide."""
    figure = Figure(
        figsize=(size * columns + 1.0, (size * height / width + 0.3) * rows + 0.4),
        dpi=DPI,
        facecolor="white",
        layout="compressed",  # keeps axes of a fixed aspect together
    )
    return figure, figure.subplots(rows, columns, squeeze=False)


def tidy(axes: Axes, *, xlabel: str = "", ylabel: str = "") -> None:
    """Give a plot its labels, a quiet grid, and no box."""
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    axes.tick_params(colors=INK, labelsize=9)


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Draw an image (3, H, W) in [0, 1] without axes."""
    axes.imshow(np.clip(image.transpose(1, 2, 0), 0.0, 1.0), interpolation="nearest")
    bare(axes)


def bare(axes: Axes) -> None:
    """Hide ticks and frame, but keep room for labels."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def amplified(clean: np.ndarray, adversarial: np.ndarray) -> tuple[np.ndarray, int]:
    """Return `0.5 + factor * (adversarial - clean)` and the factor; gray is no change, brighter is added.

    The factor is the largest of 1, 2, 5, 10, 20, 50 at which no pixel of the images leaves [0, 1].
    """
    difference = adversarial - clean
    largest = float(np.abs(difference).max(initial=0.0))
    factor = max((step for step in (1, 2, 5, 10, 20, 50) if step * largest <= 0.5), default=1)
    return np.clip(0.5 + factor * difference, 0.0, 1.0), factor if largest else 1


def heat_bottom(maps: Iterable[np.ndarray]) -> float:
    """Return where the color scale of cosine maps begins: the tenth below the lowest value, at most 0.9."""
    lowest = min((float(values.min()) for values in maps), default=0.0)
    return float(min(np.floor(lowest * 10) / 10, 0.9))


def pixels(images: object) -> np.ndarray:
    """Return images (n, 3, H, W) as a NumPy array; CPU tensors are taken too."""
    array = np.asarray(images, dtype=np.float32)
    if array.ndim != 4 or array.shape[1] != 3:
        raise ValueError(f"images of shape (n, 3, H, W) are wanted, not {array.shape}")
    return array


def shortened(text: str, length: int = 24) -> str:
    """Return `text`, or its end behind an ellipsis: file names differ mostly at their end."""
    return text if len(text) <= length else "…" + text[1 - length :]


def keep_apart(figure: Figure) -> None:
    """Move the annotations beside points, so that those of an axes overlap neither each other nor its markers.

    Of eight places around its point each takes the one that covers least of what is there already.
    """
    figure.draw_without_rendering()  # lays out the figure, which places depend on
    for axes in figure.axes:
        marks = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
        taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for points in marks for x, y in points]
        for text in axes.texts:
            text.set_in_layout(False)
            covered = {}
            for x, y in product((5, -5), (4, -11, 15, -22)):
                text.set_position((x, y))
                text.set_horizontalalignment("left" if x > 0 else "right")
                box = text.get_window_extent()
                inside = Bbox.intersection(box, axes.bbox)
                outside = box.width * box.height - (inside.width * inside.height if inside else 0)
                covered[x, y] = outside + sum(_shared(box, other) for other in taken)
            x, y = min(covered, key=lambda place: covered[place])
            text.set_position((x, y))
            text.set_horizontalalignment("left" if x > 0 else "right")
            taken.append(text.get_window_extent())


def _shared(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    both = Bbox.intersection(one, other)
    return float(both.width * both.height) if both else 0.0


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.08)
