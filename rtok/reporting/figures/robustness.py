"""The robustness curve: each victim at each radius."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtok.reporting.figures.canvas import GRAY, INK, VICTIM_COLORS, new_figure, save, tidy
from rtok.results.columns import Column
from rtok.results.rows import Identity, Naming, Row, interval_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":", "-.")  # several lines of one kind of victim


def robustness_curve(rows: Sequence[Row], path: Path, column: Column) -> None:
    """Draw a column against the Linf radius in pixels: one panel per threat, one line per victim with its 95 % band.

    The plain model under `transfer`, which for the public model is the white-box attack, is drawn gray in the panels of
    threats that have no plain victim.

    Args:
        rows: the `curve` of `results.json`. Rows whose value is null are left out.
    """
    known = [row for row in rows if row.get(column.key) is not None]
    threats = list(dict.fromkeys(row["threat"] for row in known))
    if not threats:
        return
    plain = [row for row in known if row["victim"] == "plain"]
    figure = new_figure(max(5.0, 3.3 * len(threats) + 0.8), 3.8)
    panels = figure.subplots(1, len(threats), sharey=True, squeeze=False)[0]
    naming = Naming.of(known)
    for axes, threat in zip(panels, threats, strict=True):
        lines: dict[str, list[Row]] = {}
        for row in known:
            if row["threat"] == threat:
                who = Identity.of(row)
                label = ", ".join([who.victim, *who.details(naming), *who.budget])
                lines.setdefault(label, []).append(row)
        drawn: dict[str, int] = {}
        for label, line in lines.items():
            victim = line[0]["victim"]
            style = STYLES[drawn.setdefault(victim, 0) % len(STYLES)]
            drawn[victim] += 1
            _line(axes, line, column, VICTIM_COLORS.get(victim, GRAY), style, label)
        if plain and "plain" not in drawn:
            _line(axes, plain, column, GRAY, "-", "plain, transfer", band=False)
        axes.set_title(threat, fontsize=10, color=INK, loc="left")
        tidy(axes, xlabel="Linf radius, of 255 (no rounding)")
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel(column.title, color=INK)
    save(figure, path)


def _line(
    axes: Axes, rows: Sequence[Row], column: Column, color: str, style: str, label: str, band: bool = True
) -> None:
    """Draw one victim's values from the clean image, a radius of zero, on."""
    ordered = sorted(rows, key=lambda row: float(row["eps"]))
    points = [(row["eps"] * 255, row[column.key], interval_of(row, column.key)) for row in ordered]
    first = ordered[0]
    if first.get(column.clean) is not None:
        points.insert(0, (0.0, first[column.clean], interval_of(first, column.clean)))
    radii = [radius for radius, _, _ in points]
    axes.plot(radii, [value for _, value, _ in points], style, color=color, marker="o", ms=3.5, label=label)
    bounds = [interval or (value, value) for _, value, interval in points]
    if band:
        low, high = zip(*bounds, strict=True)
        axes.fill_between(radii, low, high, color=color, alpha=0.13, linewidth=0)
