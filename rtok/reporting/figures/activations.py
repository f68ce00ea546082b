"""The largest activation after every block, clean and adversarial, plain and robust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from rtok.reporting.figures.canvas import BLUE, GREEN, INK, VERMILION, new_figure, save, tidy
from rtok.reporting.labels import counted, token_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
# What a line shows: its images and positions, and how it is drawn.
LINES = {
    ("clean", "own"): (GREEN, "-", "clean"),
    ("adversarial", "own"): (VERMILION, "--", "adversarial"),
    ("clean", "tokens"): (BLUE, "-", "on the tokens, clean"),
    ("adversarial", "tokens"): (BLUE, "--", "on the tokens, adversarial"),
}
_COLUMNS = 4  # panels side by side


def activation_lines(rows: Sequence[Row], path: Path) -> None:
    """Draw the largest activation against the block: a panel a victim, a line for clean and adversarial images.

    Args:
        rows: those of `activations.csv`; `low` and `high` become bands.
        path: the PNG to write.
    """
    victims: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        victims.setdefault((row["victim"], row["tokens"], row["n"]), []).append(row)
    columns = min(_COLUMNS, len(victims))
    lines = -(-len(victims) // columns)
    figure = new_figure(2.9 * columns + 0.8, 3.1 * lines + 0.5)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    names = token_names(rows)
    for axes in grid.flat[len(victims) :]:
        axes.remove()
    for place, (axes, ((victim, tokens, n), members)) in enumerate(
        zip(grid.flat, victims.items(), strict=False)
    ):
        _panel(axes, members)
        about = names[str(tokens)] if len(names) > 1 and tokens else _counted(n)
        axes.set_title(f"{victim}, {about}" if about else victim, fontsize=10, color=INK, loc="left")
        last = place + columns >= len(victims)
        tidy(axes, xlabel="block" if last else "", ylabel="" if place % columns else "largest activation")
        axes.tick_params(labelbottom=last)
    handles = {label: line for axes in grid.flat for line in axes.lines for label in [str(line.get_label())]}
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=2 if columns < 3 else 4,
        frameon=False,
        fontsize=9,
        handlelength=2.6,
    )
    save(figure, path)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    for key, (colour, style, label) in LINES.items():
        points = [row for row in rows if (row["images"], row["positions"]) == key]
        if not points:
            continue
        blocks = [row["block"] for row in points]
        axes.plot(blocks, [row["largest"] for row in points], style, color=colour, linewidth=1.8, label=label)
        if all(row["low"] is not None for row in points):
            low, high = ([row[side] for row in points] for side in ("low", "high"))
            axes.fill_between(blocks, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _counted(n: int | None) -> str:
    return "" if n is None else counted(n, "token")
