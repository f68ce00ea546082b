"""The main number of an evaluation: how close each victim stays under each threat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rtok.reporting.figures.canvas import GRAY, INK, VICTIM_COLORS, new_figure, save, tidy
from rtok.results.columns import Column, main_column
from rtok.results.rows import Identity, Naming, Row, by_attack, interval_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def summary_figures(rows: Sequence[Row], folder: Path, command: str) -> None:
    """Draw a command's main column as `summary.png`."""
    victim_bars(rows, folder / "summary.png", main_column(command))


def victim_bars(rows: Sequence[Row], path: Path, column: Column) -> None:
    """Write `bars` as a PNG."""
    save(bars(rows, column), path)


def bars(rows: Sequence[Row], column: Column) -> Figure:
    """Draw a column as bars grouped by threat, one per victim (and defense), with the 95 % interval of `ci95`.

    Args:
        rows: rows of `results.json`; one panel per attack. Rows whose value is null are left out.
    """
    panels = by_attack([row for row in rows if row.get(column.key) is not None])
    naming = Naming.of(rows)
    most = max(len(group) for _, group in panels)
    figure = new_figure(max(6.4, 0.55 * most + 2.2), 3.5 * len(panels) + 0.3)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharey=True, gridspec_kw={"hspace": 0.08})
    for axes, (title, group) in zip(grid[:, 0], panels, strict=True):
        _panel(axes, group, column, naming)
        # About twelve characters of this size fit an inch.
        lines = wrap(title, int(12 * figure.get_figwidth()))
        axes.set_title("\n".join(lines), fontsize=10, color=INK, loc="left")
    return figure


def _panel(axes: Axes, rows: Sequence[Row], column: Column, naming: Naming) -> None:
    """Draw one attack's bars, those of a threat side by side with a gap before the next threat."""
    threats: dict[str, list[Row]] = {}
    for row in rows:
        threats.setdefault(row["threat"], []).append(row)
    places: list[float] = []
    labels: list[str] = []
    for threat, group in threats.items():
        start = places[-1] + 1.6 if places else 0.0
        for place, row in enumerate(group):
            _bar(axes, start + place, row, column.key)
            places.append(start + place)
            labels.append(_label(row, naming))
        middle = start + (len(group) - 1) / 2
        # Below the bars' own labels, whichever of them has the most lines.
        drop = -22 - 12 * max(_label(row, naming).count("\n") for row in rows)
        at: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "va": "top"}
        axes.annotate(threat, (middle, 0), (0, drop), **at, fontsize=10, fontweight="bold", color=INK)
    axes.set_xticks(places, labels)
    tidy(axes, ylabel=column.title)
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=GRAY, linewidth=0.8)
    # Room for the numbers above the highest bar.
    axes.margins(x=0.03, y=0.12)


def _label(row: Row, naming: Naming) -> str:
    """Name a bar; one word per line, since a bar is about eight characters wide."""
    who = Identity.of(row)
    words = " ".join([*who.details(naming), *who.budget]).split(" ")
    return "\n".join([who.victim, *filter(None, words)])


def _bar(axes: Axes, place: float, row: Row, key: str) -> None:
    value = row[key]
    low, high = interval_of(row, key) or (value, value)
    axes.bar(place, value, width=0.86, color=VICTIM_COLORS.get(row["victim"], GRAY))
    if high > low:
        error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(place, value, yerr=error, color=INK, linewidth=1.2, capsize=4)
    axes.annotate(
        f"{value:.2f}", (place, max(high, 0.0)), (0, 3), textcoords="offset points", ha="center", fontsize=9, color=INK
    )
