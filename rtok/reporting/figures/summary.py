"""The headline of an evaluation: how close each victim stays under each threat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rtok.reporting.figures.canvas import GREY, INK, VICTIM_COLOURS, new_figure, save, tidy
from rtok.reporting.figures.counts import count_curve
from rtok.reporting.labels import by_attack, in_words, token_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def summary_figures(rows: Sequence[Mapping[str, Any]], folder: Path, key: str) -> None:
    """Draw `key`, a command's headline, as `summary.png`, and for several token counts as `counts.png`."""
    victim_bars(rows, folder / "summary.png", key)
    count_curve(rows, folder / "counts.png", key)


def victim_bars(rows: Sequence[Mapping[str, Any]], path: Path, key: str = "cosine_to_plain") -> None:
    """Draw `key` as bars grouped by threat, one a victim (and token file), with the 95 % interval of `ci95`.

    Args:
        rows: rows of `results.json`; one panel an attack. Rows whose `key` is null are left out.
        path: the PNG to write.
    """
    panels = by_attack([row for row in rows if row.get(key) is not None])
    names = token_names(rows)
    bars = max(len(group) for _, group in panels)
    figure = new_figure(max(6.4, 0.55 * bars + 2.2), 3.5 * len(panels) + 0.3)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharey=True, gridspec_kw={"hspace": 0.08})
    for axes, (title, group) in zip(grid[:, 0], panels, strict=True):
        _panel(axes, group, key, names)
        # About twelve characters of this size fit an inch.
        lines = wrap(title, int(12 * figure.get_figwidth()))
        axes.set_title("\n".join(lines), fontsize=10, color=INK, loc="left")
    save(figure, path)


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, names: Mapping[str, str]) -> None:
    """Draw one attack's bars, those of a threat side by side with a gap before the next threat."""
    threats: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        threats.setdefault(row["threat"], []).append(row)
    places: list[float] = []
    labels: list[str] = []
    for threat, group in threats.items():
        start = places[-1] + 1.6 if places else 0.0
        group_places = [start + index for index in range(len(group))]
        for place, row in zip(group_places, group, strict=True):
            _bar(axes, place, row, key)
            labels.append(_label(row, rows, names))
        places += group_places
        middle = sum(group_places) / len(group)
        # Below the bars' own labels, whichever of them has the most lines.
        drop = -22 - 12 * max(_label(row, rows, names).count("\n") for row in rows)
        axes.annotate(
            threat,
            (middle, 0),
            (0, drop),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=10,
            fontweight="bold",
            color=INK,
        )
    axes.set_xticks(places, labels)
    tidy(axes, ylabel=in_words(key))
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    # Room for the numbers above the highest bar.
    axes.margins(x=0.03, y=0.12)


def _label(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Name a bar: the victim and, where rows differ in them, its token file and its head."""
    lines = [row["victim"]]
    # The control has no file: its token count tells whose control it is.
    name = names.get(str(row.get("tokens")), row.get("n"))
    if name is not None and len(names) > 1:
        lines.append(str(name))
    if len({other.get("head_features") for other in rows}) > 1 and row["victim"] == "robust":
        lines += [row["head_features"], "head"]  # two lines, since a bar is about eight characters wide
    if row.get("queries") is not None:
        lines += [str(row["queries"]), row["start"]]
    return "\n".join(lines)


def _bar(axes: Axes, place: float, row: Mapping[str, Any], key: str) -> None:
    value = row[key]
    low, high = (row.get("ci95") or {}).get(key) or (value, value)
    axes.bar(place, value, width=0.86, color=VICTIM_COLOURS.get(row["victim"], GREY))
    if high > low:
        error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(place, value, yerr=error, color=INK, linewidth=1.2, capsize=4)
    axes.annotate(
        f"{value:.2f}",
        (place, max(high, 0.0)),
        (0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=INK,
    )
