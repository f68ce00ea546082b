"""The ablation of the token count: what each number of tokens gains, and what it costs on clean images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rtok.reporting.figures.canvas import GRAY, GREEN, INK, VICTIM_COLORS, new_figure, save, tidy
from rtok.results.columns import Column
from rtok.results.rows import Identity, Naming, Row, by_attack, interval_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = {"transfer": "-", "informed": "--", "guessed": "-.", "adaptive": ":"}
_DODGE = 0.06  # between the places of two lines, in counts, so that their intervals do not hide each other


def count_curve(rows: Sequence[Row], path: Path, column: Column) -> bool:
    """Draw a column against the number of tokens, with 95 % intervals: one panel per attack.

    There is one line per victim and threat. Several defense files of one count (seeds) are dots around their mean. The
    line of the clean images is that of the robust model, without any attack.

    Args:
        rows: rows of `results.json`. Those of `query` attacks, and those whose value is null, are left out.
        path: the PNG to write.

    Returns:
        Whether it was drawn: only where robust victims have several counts.
    """
    known = [row for row in rows if row.get(column.key) is not None and row.get("queries") is None]
    counts = sorted({row["n"] for row in known if row["victim"] == "robust" and row["n"] is not None})
    if len(counts) < 2:
        return False
    panels = by_attack(known)
    figure = new_figure(6.8, 4.2 * len(panels))
    for axes, (title, group) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _panel(axes, group, counts, column)
        axes.set_title("\n".join(wrap(title, 80)), fontsize=10, color=INK, loc="left")
    save(figure, path)
    return True


def _panel(axes: Axes, rows: Sequence[Row], counts: Sequence[int], column: Column) -> None:
    naming = Naming({}, defenses=False, heads=Naming.of(rows).heads)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row["n"] in counts:
            who = Identity.of(row)
            label = ", ".join([who.victim, who.threat, *who.details(naming)])
            lines.setdefault(label, []).append(row)
    for number, (label, members) in enumerate(lines.items()):
        first, shift = members[0], _DODGE * (number - (len(lines) - 1) / 2)
        color, style = VICTIM_COLORS.get(first["victim"], GRAY), STYLES.get(first["threat"], "-")
        _line(axes, members, counts, column.key, shift, color=color, linestyle=style, label=label)
    robust = [row for row in rows if row["victim"] == "robust"]
    clean = [row for row in robust if row["threat"] == robust[0]["threat"] and row.get(column.clean)]
    if clean:
        _line(axes, clean, counts, column.clean, interval=False, color=GREEN, label="robust, clean images")
    for row in [row for row in rows if row["victim"] == "plain"][:1]:
        label = f"plain, {row['threat']}"
        axes.axhline(row[column.key], color=VICTIM_COLORS["plain"], linewidth=1.5, label=label)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    tidy(axes, xlabel="number of tokens", ylabel=column.title)
    axes.margins(x=0.08)
    axes.legend(frameon=False, fontsize=8, handlelength=3.6, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(
    axes: Axes,
    rows: Sequence[Row],
    counts: Sequence[int],
    key: str,
    shift: float = 0.0,
    *,
    interval: bool = True,
    **look: Any,
) -> None:
    groups = [(place + shift, [row for row in rows if row["n"] == count]) for place, count in enumerate(counts)]
    groups = [(place, group) for place, group in groups if group]
    means = [statistics.fmean(row[key] for row in group) for _, group in groups]
    axes.plot([place for place, _ in groups], means, linewidth=1.8, marker="o", markersize=4, **look)
    for place, group in groups:
        bounds = interval_of(group[0], key) if interval and len(group) == 1 else None
        if bounds:
            axes.vlines(place, bounds[0], bounds[1], color=look["color"], linewidth=1.0, alpha=0.55)
        if len(group) > 1:
            values = [row[key] for row in group]
            axes.plot([place] * len(group), values, "o", color=look["color"], markersize=3, alpha=0.45)
