"""The trade-off of a defense: what it keeps under attack against what it costs on clean images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rtok.reporting.figures.canvas import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    VICTIM_COLORS,
    keep_apart,
    new_figure,
    save,
    shortened,
    tidy,
)
from rtok.results.columns import Column
from rtok.results.rows import Identity, Naming, Row, by_attack, interval_of
from rtok.results.words import detailed, of_255

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Settings = Mapping[str, Mapping[str, Any]]  # per defense file: its training's settings by dotted key
# What trainings are varied in, most telling first; then whatever else differs in the section of the defense.
VARIED = {"train.invariance_weight": "invariance weight", "attack.eps": "radius", "defense.count": "number of tokens"}
_LONG = 45  # characters of a label beside which a legend has no room for another
# How a training was carried out, which changes no result.
_IDLE = {"train.checkpoint_every", "train.micro_batch", "train.activation_checkpointing"}
_LOOKS = tuple((color, marker) for marker in "oD^v" for color in (BLUE, GREEN, INK, GRAY))  # of the lines


def tradeoff(rows: Sequence[Row], settings: Settings, path: Path, column: Column) -> bool:
    """Draw a column against its value on clean images: a row of panels per attack, a panel per threat.

    A point is a robust victim. The points of trainings that differ in one setting alone (the weight of the invariance
    term, the radius, the number of tokens) are a line, with the setting beside them; those that differ in their seeds
    alone are faint dots around their mean. The plain model, the control and 95 % intervals are drawn too.

    Args:
        rows: rows of `results.json`, of one or more runs. Those whose value is null are left out.
        settings: see `Settings`; a file that is missing has no settings.
        path: the PNG to write.

    Returns:
        Whether it was drawn: only for two or more defenses.
    """
    known = [row for row in rows if row.get(column.key) is not None and row.get(column.clean) is not None]
    points = [row for row in known if row["victim"] == "robust"]
    places = Places(Naming.of(points).files, settings)
    if len(places.files) < 2:
        return False
    attacks = [(title, group) for title, group in by_attack(known) if any(row["victim"] == "robust" for row in group)]
    threats = list(dict.fromkeys(Identity.of(row).threat_label for row in points))
    figure = new_figure(max(5.0, 3.0 * len(threats) + 0.6), 3.1 * len(attacks) + 0.6)
    parts = figure.subfigures(len(attacks), 1, squeeze=False)[:, 0]
    for part, (title, group) in zip(parts, attacks, strict=True):
        line = part.subplots(1, len(threats), sharex=True, sharey=True, squeeze=False)[0]
        for axes, threat in zip(line, threats, strict=True):
            _panel(axes, group, threat, places, column)
            axes.set_title(threat, fontsize=10, color=INK, loc="left")
            xlabel = column.clean.replace("_", " ")
            tidy(axes, xlabel=xlabel, ylabel=column.title if axes is line[0] else "")
            axes.margins(x=0.12, y=0.08)  # room for the settings beside the points
        if len(attacks) > 1:
            text = "\n".join(wrap(title, int(13 * figure.get_figwidth())))
            part.suptitle(text, x=0.01, ha="left", fontsize=9, color=INK)
    handles = {str(drawn.get_label()): drawn for part in parts for axes in part.axes for drawn in axes.lines}
    shown = {label: drawn for label, drawn in handles.items() if not label.startswith("_")}
    look: dict[str, Any] = {"loc": "outside upper center", "frameon": False, "fontsize": 9}
    columns = 1 if max(map(len, shown)) > _LONG else min(len(shown), 3 if len(threats) > 1 else 2)
    figure.legend(list(shown.values()), list(shown), ncols=columns, **look)
    keep_apart(figure)
    save(figure, path)
    return True


class Places:
    """Where each defense belongs: on which line, and where on it.

    Attributes:
        files: short names of the defense files.
        along: the setting that a line goes along; "" where nothing is varied.
    """

    def __init__(self, files: Mapping[str, str], settings: Settings) -> None:
        self.files = files
        self._settings = {file: _told(settings.get(file, {})) for file in files}
        further = sorted({key for found in self._settings.values() for key in found if key.startswith("defense.")})
        values = {key: self._values(key) for key in dict.fromkeys([*VARIED, *further])}
        varied = {key: found for key, found in values.items() if len(found) > 1}
        self.along = max(varied, key=lambda key: len(varied[key]), default="")
        self._apart = [key for key in varied if key != self.along]
        self._apart += sorted(self._differences())

    def _differences(self) -> set[str]:
        """The other settings that tell trainings apart which would be one point."""
        points: dict[tuple[object, ...], list[dict[str, Any]]] = {}
        for found in self._settings.values():
            if found.get(self.along) is not None:  # others have a point of their own, by name
                place = tuple(found.get(key) for key in ("defense.kind", self.along, *self._apart))
                points.setdefault(place, []).append(found)
        different: set[str] = set()
        for first, *others in points.values():
            for other in others:
                different |= {key for key in first.keys() | other.keys() if first.get(key) != other.get(key)}
        return different - _IDLE

    def _values(self, key: str) -> set[float]:
        found = [self._settings[file].get(key) for file in self.files]
        return {value for value in found if isinstance(value, int | float) and not isinstance(value, bool)}

    def line(self, row: Row) -> str:
        """The line of a robust row, in words: what its points share."""
        own = self._settings[row["defense"]]
        shared = [_setting(key, own[key]) for key in self._apart if key in own]
        return detailed(str(row.get("kind") or "robust"), shared)

    def place(self, row: Row) -> float | str:
        """Where on its line a robust row is: the setting's value, or its name where it has none."""
        value = self._settings[row["defense"]].get(self.along)
        return value if isinstance(value, int | float) else self.files[row["defense"]]

    def label(self, place: float | str) -> str:
        """The place in words, short."""
        if isinstance(place, str):
            return shortened(place, 16)
        return of_255(place) if self.along.endswith(".eps") and place < 1 else f"{place:g}"

    def title(self, line: Mapping[float | str, list[Row]]) -> str:
        """The setting that a line goes along, for the legend; "" where its points have names instead."""
        return "" if all(isinstance(place, str) for place in line) else f", by {_name(self.along)}"


def _panel(axes: Axes, rows: Sequence[Row], threat: str, places: Places, column: Column) -> None:
    lines: dict[str, dict[float | str, list[Row]]] = {}
    all_lines = dict.fromkeys(places.line(row) for row in rows if row["victim"] == "robust")
    for row in rows:
        if Identity.of(row).threat_label == threat and row["victim"] == "robust":
            lines.setdefault(places.line(row), {}).setdefault(places.place(row), []).append(row)
    for label, line in lines.items():
        color, marker = _LOOKS[list(all_lines).index(label) % len(_LOOKS)]
        _line(axes, line, places, column, color=color, marker=marker, label=label + places.title(line))
    control = [row for row in rows if row["victim"] == "random" and Identity.of(row).threat_label == threat]
    _reference(axes, control, column, "random", "s", "control")
    plain = [row for row in rows if row["victim"] == "plain"]
    _reference(axes, plain[:1], column, "plain", "*", f"plain, {plain[0]['threat']}" if plain else "")


def _line(axes: Axes, line: Mapping[float | str, list[Row]], places: Places, column: Column, **look: Any) -> None:
    numbers = sorted(place for place in line if not isinstance(place, str))
    ordered: list[float | str] = [*numbers, *(place for place in line if isinstance(place, str))]
    means = {place: _mean(line[place], column) for place in ordered}
    style = "-" if len(numbers) > 1 else "none"
    axes.plot(*zip(*means.values(), strict=True), linestyle=style, linewidth=1.4, markersize=5, **look)
    for place, (x, y) in means.items():
        members = line[place]
        bounds = interval_of(members[0], column.key) if len(members) == 1 else None
        if bounds:
            axes.vlines(x, bounds[0], bounds[1], color=look["color"], linewidth=1.0, alpha=0.4)
        if len(members) > 1:
            points = [(row[column.clean], row[column.key]) for row in members]
            axes.plot(*zip(*points, strict=True), look["marker"], color=look["color"], markersize=3, alpha=0.35)
        axes.annotate(places.label(place), (x, y), (5, 4), textcoords="offset points", fontsize=8, color=look["color"])


def _reference(axes: Axes, rows: Sequence[Row], column: Column, victim: str, marker: str, label: str) -> None:
    if rows:
        points = zip(*((row[column.clean], row[column.key]) for row in rows), strict=True)
        axes.plot(*points, marker, color=VICTIM_COLORS[victim], fillstyle="none", markersize=7, label=label)


def _mean(rows: Sequence[Row], column: Column) -> tuple[float, float]:
    return statistics.fmean(row[column.clean] for row in rows), statistics.fmean(row[column.key] for row in rows)


def _name(key: str) -> str:
    return VARIED.get(key, key.rpartition(".")[2].replace("_", " "))


def _setting(key: str, value: Any) -> str:
    """Say a setting: `tokens 10`, `radius 4/255`."""
    if value is None:
        return f"no {_name(key)}"
    small = key.endswith(".eps") and isinstance(value, float) and value < 1
    return f"{_name(key)} {of_255(value) if small else f'{value:g}' if isinstance(value, float) else value}"


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the keys of their sections; what a key holds deeper down is one text, `hold 0, ramp 0.5`.

    An alpha that is the rank is left out: it says nothing more.
    """
    told: dict[str, Any] = {}
    for path, value in settings.items():
        section, key, *inner = path.split(".")
        name = f"{section}.{key}"
        part = f"{'.'.join(inner)} {value:g}" if isinstance(value, float) else f"{'.'.join(inner)} {value}"
        told[name] = ", ".join(filter(None, [told.get(name), part])) if inner else value
    if told.get("defense.alpha") == told.get("defense.rank"):
        told.pop("defense.alpha", None)
    return told
