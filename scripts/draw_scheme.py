"""Draw docs/figures/training.png, how robustness tokens are trained: `python scripts/draw_scheme.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from rtok.reporting.figures.canvas import BLUE, DPI, GREEN, INK, ORANGE, VERMILION, save

TARGET = Path(__file__).resolve().parents[1] / "docs" / "figures" / "training.png"
ICE, PALE = "#E3EEF6", "#FBE9CF"
# The plane, and the heights of the three passes through the backbone.
WIDTH, HEIGHT, FLOOR = 13.5, 5.2, 0.65
TOP, MIDDLE, BOTTOM = 5.1, 3.3, 1.5


def main() -> None:
    """Draw the scheme; a unit of the plane is an inch."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")

    inputs(axes)
    token_box(axes)
    sequences(axes)
    backbone(axes)
    outputs(axes)
    gradient(axes)
    axes.set(xlim=(0, WIDTH), ylim=(FLOOR, FLOOR + HEIGHT), aspect="equal")
    save(figure, TARGET)


def inputs(axes: Axes) -> None:
    """The clean image, the attack on the plain backbone, the adversarial image."""
    clean = landscape()
    noise = np.random.default_rng(3).choice([-0.09, 0.09], clean.shape)
    picture(axes, clean, 1.15, 4.2, "clean image  $x$", above=True)
    picture(axes, np.clip(clean + noise, 0, 1), 1.15, BOTTOM, r"adversarial image  $x_{adv}$", above=False)
    box(axes, 1.15, 2.85, 1.96, 0.8, "white", VERMILION)
    axes.text(1.15, 3.06, "PGD attack", ha="center", va="center", fontsize=11, color=VERMILION, weight="bold")
    about = "on the plain backbone,\nblind to the tokens"
    axes.text(1.15, 2.71, about, ha="center", va="center", fontsize=9, color=VERMILION)
    arrow(axes, (1.15, 3.51), (1.15, 3.27), VERMILION)
    arrow(axes, (1.15, 2.43), (1.15, 2.19), VERMILION)
    arrow(axes, (1.9, 4.35), (3.72, TOP), INK, bend=-0.12)
    arrow(axes, (1.9, 4.05), (3.72, MIDDLE), INK, bend=0.12)
    arrow(axes, (1.9, BOTTOM), (3.72, BOTTOM), INK)


def token_box(axes: Axes) -> None:
    """The only thing that is trained."""
    box(axes, 5.05, 2.4, 1.62, 0.62, PALE, ORANGE, width=2.2)
    axes.text(5.05, 2.4, "tokens  $r$\ntrained, private", ha="center", va="center", fontsize=10.5, color=INK)
    arrow(axes, (5.35, 2.73), (5.5, 3.1), ORANGE)
    arrow(axes, (5.35, 2.07), (5.5, 1.7), ORANGE)


def sequences(axes: Axes) -> None:
    """What enters the backbone: CLS and patches, and the tokens behind them."""
    for height, tokens in ((TOP, 0), (MIDDLE, 3), (BOTTOM, 3)):
        strip(axes, 3.8, height, tokens)
        arrow(axes, (3.82 + 0.25 * (6 + tokens), height), (6.55, height), INK)
    axes.text(4.55, TOP + 0.36, "CLS and patches", ha="center", fontsize=9.5, color=INK)


def backbone(axes: Axes) -> None:
    """One frozen network, used three times."""
    box(axes, 7.45, MIDDLE, 1.7, 4.7, ICE, BLUE, width=2.2)
    axes.text(7.45, 4.55, "backbone  $f$", ha="center", va="center", fontsize=13, color=BLUE, weight="bold")
    snowflake(axes, 7.45, 3.95, 0.34)
    axes.text(7.45, 3.15, "frozen:\nthe same weights\nthree times", ha="center", va="center", fontsize=10, color=BLUE)


def outputs(axes: Axes) -> None:
    """The features, compared with those of the plain backbone on the clean image."""
    names = {TOP: "$f(x)$", MIDDLE: "$f(x,\\ r)$", BOTTOM: "$f(x_{adv},\\ r)$"}
    for height, name in names.items():
        arrow(axes, (8.36, height), (8.8, height), INK)
        strip(axes, 8.86, height, 0)
        axes.text(9.61, height + 0.25, name, ha="center", fontsize=12, color=INK)
    axes.text(9.61, TOP + 0.62, "target, no gradient", ha="center", fontsize=10, color=INK, style="italic")
    axes.text(
        9.61, BOTTOM - 0.44, "outputs of the tokens\nare dropped", ha="center", va="center", fontsize=9, color=INK
    )

    for height, color, name, meaning in (
        (MIDDLE, GREEN, "invariance", "clean features stay"),
        (BOTTOM, BLUE, "adversarial", "attacked ones return"),
    ):
        arrow(axes, (10.42, height), (11.13, height), color)
        disc(axes, 11.5, height, color)
        axes.text(12.0, height + 0.13, name, ha="left", va="center", fontsize=11, color=color, weight="bold")
        axes.text(12.0, height - 0.14, meaning, ha="left", va="center", fontsize=9, color=INK)
    # The target goes to both comparisons: one line from it, past the first disc, to the second.
    axes.plot([10.42, 11.5], [TOP, TOP], color=INK, linewidth=1.6, solid_capstyle="round")
    axes.plot([11.5, 11.5], [TOP, MIDDLE + 0.5], color=INK, linewidth=1.6)
    arrow(axes, (11.5, TOP), (11.5, MIDDLE + 0.36), INK)
    arrow(axes, (11.5, MIDDLE - 0.36), (11.5, BOTTOM + 0.36), INK)


def gradient(axes: Axes) -> None:
    """The way back: through the frozen backbone into the tokens, nowhere else."""
    between = (MIDDLE + BOTTOM) / 2
    box(axes, 12.72, between, 1.36, 0.62, PALE, ORANGE)
    axes.text(12.72, between, "maximize\nthe sum", ha="center", va="center", fontsize=10.5, color=INK)
    arrow(axes, (12.72, MIDDLE - 0.34), (12.72, between + 0.35), ORANGE)
    arrow(axes, (12.72, BOTTOM + 0.34), (12.72, between - 0.35), ORANGE)
    axes.plot([12.0, 6.1], [between, between], color=ORANGE, linewidth=2.2, linestyle=(0, (4, 2.4)))
    arrow(axes, (6.1, between), (5.9, between), ORANGE)
    axes.text(9.75, between + 0.16, "gradient, into the tokens alone", ha="center", va="center", fontsize=10, color=INK)


def box(axes: Axes, x: float, y: float, w: float, h: float, face: str, edge: str, width: float = 1.6) -> None:
    """A rounded box around (x, y)."""
    style = "round,pad=0,rounding_size=0.12"
    corner = (x - w / 2, y - h / 2)
    axes.add_patch(FancyBboxPatch(corner, w, h, style, facecolor=face, edgecolor=edge, linewidth=width))


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, bend: float = 0.0) -> None:
    """An arrow that may bend."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=13,
            linewidth=1.6,
            color=color,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
        )
    )


def strip(axes: Axes, x: float, y: float, tokens: int) -> None:
    """A token sequence: CLS (dark), patches, then our tokens."""
    for index, face in enumerate(["#9AA5AE", *["#D9DEE2"] * 5, *[ORANGE] * tokens]):
        corner = (x + 0.25 * index, y - 0.11)
        axes.add_patch(Rectangle(corner, 0.22, 0.22, facecolor=face, edgecolor=INK, linewidth=0.8))


def disc(axes: Axes, x: float, y: float, color: str) -> None:
    """A comparison by cosine."""
    axes.plot([x], [y], "o", markersize=46, color="white", markeredgecolor=color, markeredgewidth=2.2)
    axes.text(x, y, "cos", ha="center", va="center", fontsize=13, color=color, weight="bold")


def snowflake(axes: Axes, x: float, y: float, radius: float) -> None:
    """Six arms with two barbs each."""
    for angle in np.arange(6) * np.pi / 3 + np.pi / 2:
        arm = np.array([np.cos(angle), np.sin(angle)]) * radius
        axes.plot([x, x + arm[0]], [y, y + arm[1]], color=BLUE, linewidth=2.0, solid_capstyle="round")
        for turn in (-np.pi / 4, np.pi / 4):
            barb = np.array([np.cos(angle + turn), np.sin(angle + turn)]) * radius * 0.34
            root = arm * 0.6
            axes.plot(
                [x + root[0], x + root[0] + barb[0]],
                [y + root[1], y + root[1] + barb[1]],
                color=BLUE,
                linewidth=1.6,
                solid_capstyle="round",
            )


def picture(axes: Axes, image: np.ndarray, x: float, y: float, name: str, *, above: bool) -> None:
    """An image of 1.36 units around (x, y) with its name."""
    half = 0.66
    axes.imshow(image, extent=(x - half, x + half, y - half, y + half), interpolation="bilinear", zorder=2)
    offset, align = (half + 0.12, "bottom") if above else (-half - 0.12, "top")
    axes.text(x, y + offset, name, ha="center", va=align, fontsize=11, color=INK)


def landscape(size: int = 160) -> np.ndarray:
    """A small picture: sky, sun, two hills; (size, size, 3) in [0, 1]."""
    y, x = np.mgrid[0:size, 0:size] / size
    sky = np.stack([0.55 + 0.35 * y, 0.75 + 0.15 * y, 0.95 - 0.05 * y], axis=-1)
    sky[(x - 0.72) ** 2 + (y - 0.27) ** 2 < 0.015] = (1.0, 0.86, 0.4)
    sky[y > 0.55 + 0.14 * np.sin(3.2 * x + 0.4)] = (0.36, 0.58, 0.47)
    sky[y > 0.78 - 0.16 * np.sin(2.6 * x + 0.2)] = (0.22, 0.43, 0.33)
    return sky


if __name__ == "__main__":
    main()
