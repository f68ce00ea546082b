"""Charts as inline SVG that is as wide as its place: lengths across are percentages, text keeps its size.

Colors come from the page's style sheet, so that they suit light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rtok.reporting.report.blocks import Bar, Bars, Curves, Point, Series
from rtok.reporting.report.markup import text


class Axis:
    """A range of numbers with round ticks.

    Args:
        low, high: what it has to hold.
        ticks: about how many.
        whole: ticks are whole numbers.
        tight: it ends where the numbers end, rather than at a tick.
    """

    def __init__(self, low: float, high: float, ticks: int = 5, *, whole: bool = False, tight: bool = False) -> None:
        span = (high - low) or max(abs(high), 1.0)
        step = 10.0 ** math.floor(math.log10(span / ticks))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= ticks)
        self.step = max(step, 1.0) if whole else step
        self._first, last = math.floor(low / self.step + 1e-9), math.ceil(high / self.step - 1e-9)
        if tight and high > low:
            self.low, self.high = low, high
        else:
            self.low, self.high = self.step * self._first, self.step * max(last, self._first + 1)

    def at(self, value: float) -> str:
        """Where a value is, in percent of the axis."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}"

    def ticks(self) -> list[tuple[str, str]]:
        """Place and text of every tick."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        count = math.ceil((self.high - self.low) / self.step) + 1
        values = [(self._first + i) * self.step for i in range(count + 1)]
        inside = [value for value in values if self.low - 1e-9 <= value <= self.high + 1e-9]
        return [(self.at(value), f"{value:.{digits}f}") for value in inside]


def bars(chart: Bars) -> str:
    """Draw values with their intervals, one below the other; every line names its victim and its number."""
    shown = [bar for _, groups in chart.panels for _, group in groups for bar in group]
    axis = Axis(min([0.0, *(bar.low for bar in shown)]), max(bar.high for bar in shown))
    parts = []
    for title, groups in chart.panels:
        parts.append(f'<p class="panel-title">{text(title)}</p><div class="bars">')
        for threat, group in groups:
            parts.append(f'<p class="group">{text(threat)}</p>')
            parts += [_bar(bar, axis) for bar in group]
        parts.append(f'<svg class="scale" aria-hidden="true">{_scale(axis)}</svg></div>')
    return "".join(parts)


def _bar(bar: Bar, axis: Axis) -> str:
    grid = "".join(f'<line class="grid" x1="{at}%" x2="{at}%" y1="0" y2="100%"/>' for at, _ in axis.ticks())
    zero, value, low, high = (axis.at(number) for number in (0.0, bar.value, bar.low, bar.high))
    left, width = sorted((float(zero), float(value)))[0], abs(float(value) - float(zero))
    drawn = (
        f'<rect class="fill" x="{left:.2f}%" y="5" width="{width:.2f}%" height="12"/>'
        f'<line class="interval" x1="{low}%" x2="{high}%" y1="11" y2="11"/>'
        f'<circle class="mark" cx="{value}%" cy="11" r="4.5"><title>{text(bar.text)}</title></circle>'
    )
    track = f'<svg class="track {bar.look}" role="img" aria-label="{text(bar.text)}">{grid}{drawn}</svg>'
    return f'<span class="name">{text(bar.name)}</span>{track}<span class="value">{text(bar.shown)}</span>'


def curves(chart: Curves) -> str:
    """Draw panels of lines with their bands, and name the lines above them."""
    points = [point for _, series in chart.panels for line in series for point in line.points]
    xs = [point.x for point in points]
    x = Axis(min(xs), max(xs), whole=all(value == int(value) for value in xs), tight=True)
    y = Axis(min(point.low for point in points), max(point.high for point in points))
    looks = {line.name: line.look for _, series in chart.panels for line in series}
    keys = "".join(f"<li>{_key(look)}{text(name)}</li>" for name, look in looks.items())
    panels = "".join(_panel(title, series, x, y, chart) for title, series in chart.panels)
    return f'<ul class="keys">{keys}</ul><div class="panels">{panels}</div>'


def _key(look: str) -> str:
    return f'<svg class="key {look}" aria-hidden="true"><line class="curve" x1="0" x2="100%" y1="50%" y2="50%"/></svg>'


def _panel(title: str, series: Sequence[Series], x: Axis, y: Axis, chart: Curves) -> str:
    grid, labels = [], []
    for at, number in y.ticks():
        place = f"{100 - float(at):.2f}%"
        grid.append(f'<line class="grid" x1="0" x2="100%" y1="{place}" y2="{place}"/>')
        labels.append(f'<text x="100%" y="{place}" dx="-6" dy="4" text-anchor="end">{number}</text>')
    head = f'<p class="panel-title">{text(title)}</p>' if title else ""
    return (
        f'<div class="panel">{head}<p class="axis">{text(chart.y)}</p>'
        f'<svg class="ylabels" aria-hidden="true">{"".join(labels)}</svg>'
        f'<svg class="plot" role="img" aria-label="{text(title or chart.y)}">{"".join(grid)}'
        f"{''.join(_series(line, x, y) for line in series)}</svg>"
        f'<svg class="scale" aria-hidden="true">{_scale(x)}</svg><p class="axis below">{text(chart.x)}</p></div>'
    )


def _series(line: Series, x: Axis, y: Axis) -> str:
    def place(point: Point, value: float) -> str:
        return f"{x.at(point.x)},{100 - float(y.at(value)):.2f}"

    drawn = ""
    if line.joined:
        path = " ".join(place(point, point.y) for point in line.points)
        if any(point.high > point.low for point in line.points):
            above = [place(point, point.high) for point in line.points]
            below = [place(point, point.low) for point in reversed(line.points)]
            drawn = f'<polygon class="band" points="{" ".join([*above, *below])}"/>'
        drawn += f'<polyline class="curve" points="{path}"/>'
        drawn = f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">{drawn}</svg>'
    few = (
        " few" if len(line.points) <= 40 and "few" not in line.look else ""
    )  # more marks would hide the line; they show when pointed at
    for point in line.points:
        cx, cy = place(point, point.y).split(",")
        drawn += f'<circle class="mark" cx="{cx}%" cy="{cy}%" r="4"><title>{text(point.text)}</title></circle>'
    return f'<g class="{line.look}{few}">{drawn}</g>'


def _scale(axis: Axis) -> str:
    def anchor(at: str) -> str:
        """Labels at the ends stay inside."""
        return "start" if float(at) < 5 else "end" if float(at) > 95 else "middle"

    return "".join(f'<text x="{at}%" y="14" text-anchor="{anchor(at)}">{number}</text>' for at, number in axis.ticks())
