"""The largest activation after every block, clean and adversarial, plain and robust."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from rtok.reporting.figures.canvas import BLUE, GREEN, INK, VERMILION, new_figure, save, tidy
from rtok.results.rows import Identity, Naming, Row
from rtok.results.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a line shows: its images and positions, and how it is drawn.
LINES = {
    ("clean", "own"): (GREEN, "-", "clean"),
    ("adversarial", "own"): (VERMILION, "--", "adversarial"),
    ("clean", "tokens"): (BLUE, "-", "on the tokens, clean"),
    ("adversarial", "tokens"): (BLUE, "--", "on the tokens, adversarial"),
}
_COLUMNS = 4  # panels side by side


def activation_lines(rows: Sequence[Row], path: Path) -> None:
    """Draw the largest activation against the block: one panel per victim, lines for clean and adversarial images.

    Args:
        rows: those of `activations.csv`; `low` and `high` become bands.
        path: the PNG to write.
    """
    victims: dict[Identity, list[Row]] = {}
    for row in rows:
        victims.setdefault(Identity.of(row), []).append(row)
    columns = min(_COLUMNS, len(victims))
    lines = -(-len(victims) // columns)
    figure = new_figure(2.9 * columns + 0.8, 3.1 * lines + 0.5)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    naming = Naming.of(rows)
    for axes in grid.flat[len(victims) :]:
        axes.remove()
    for place, (axes, (who, members)) in enumerate(zip(grid.flat, victims.items(), strict=False)):
        _panel(axes, members)
        tokens = [] if who.n is None else [counted(who.n, "token")]
        title = ", ".join([who.victim, *(who.details(naming) or tokens)])
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        last = place + columns >= len(victims)
        tidy(axes, xlabel="block" if last else "", ylabel="" if place % columns else "largest activation")
        axes.tick_params(labelbottom=last)
    handles = {label: line for axes in grid.flat for line in axes.lines for label in [str(line.get_label())]}
    look: dict[str, Any] = {"loc": "outside upper center", "frameon": False, "fontsize": 9, "handlelength": 2.6}
    figure.legend(list(handles.values()), list(handles), ncols=2 if columns < 3 else 4, **look)
    save(figure, path)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    for key, (color, style, label) in LINES.items():
        points = [row for row in rows if (row["images"], row["positions"]) == key]
        if not points:
            continue
        blocks = [row["block"] for row in points]
        axes.plot(blocks, [row["largest"] for row in points], style, color=color, linewidth=1.8, label=label)
        if all(row["low"] is not None for row in points):
            low, high = ([row[side] for row in points] for side in ("low", "high"))
            axes.fill_between(blocks, low, high, color=color, alpha=0.13, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
