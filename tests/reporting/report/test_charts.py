"""The charts of a report's page: which values they show, and where on their axes."""

from __future__ import annotations

from typing import Any

import pytest

from rtok.reporting.report.charts import robustness_curves, summary_bars, tradeoff_curves, training_curves
from rtok.reporting.report.svg import Axis, bars, curves
from rtok.results.columns import main_column
from tests.reporting.report.folders import Page

Rows = list[dict[str, Any]]
MAIN = main_column("eval-features")


def test_bars_have_the_values_and_intervals_of_the_rows(rows: Rows) -> None:
    chart = summary_bars([*rows, {**rows[0], "cosine_to_plain": None}], MAIN)
    assert chart is not None
    ((title, groups),) = chart.panels
    assert title.startswith("attack paper") and [threat for threat, _ in groups] == ["transfer", "informed", "adaptive"]
    plain, random, robust = groups[0][1]
    assert [bar.look for bar in (plain, random, robust)] == ["plain", "random", "robust"]
    assert (robust.value, robust.low, robust.high) == pytest.approx((0.692, 0.661, 0.723))
    assert robust.text == "robust under transfer: cosine to plain 0.692 ± 0.031"
    assert summary_bars([], MAIN) is None


def test_a_bar_ends_where_its_value_is(rows: Rows) -> None:
    page = Page(bars(summary_bars([{**row, "ci95": None} for row in rows], MAIN)))
    fills = [attrs for tag, attrs in page.elements if tag == "rect"]
    # the axis goes from 0 to 0.8
    assert [attrs["width"] for attrs in fills[:3]] == ["24.00%", "76.38%", "86.50%"]
    assert {attrs["x"] for attrs in fills} == {"0.00%"}


def test_a_negative_value_goes_to_the_left_of_zero(rows: Rows) -> None:
    below = [{**row, "cosine_to_plain": value, "ci95": None} for row, value in zip(rows, (-0.2, 0.6), strict=False)]
    page = Page(bars(summary_bars(below, MAIN)))
    low, high = [attrs for tag, attrs in page.elements if tag == "rect"]
    assert (low["x"], low["width"], high["x"], high["width"]) == ("0.00%", "25.00%", "25.00%", "75.00%")


def test_a_curve_begins_at_the_clean_image_and_goes_by_radius(curve_rows: Rows) -> None:
    chart = robustness_curves(curve_rows, MAIN)
    assert chart is not None
    (transfer, (_, adaptive)) = chart.panels
    assert transfer[0] == "transfer" and [line.name for line in transfer[1]] == ["plain", "robust"]
    points = adaptive[0].points
    assert [point.x for point in points] == pytest.approx([0, 1, 2])
    assert [point.y for point in points] == pytest.approx([0.912, 0.8, 0.7])
    assert adaptive[0].points[1].text == "robust at 1/255: 0.800 ± 0.031"
    page = Page(curves(chart))
    assert [attrs["cx"] for tag, attrs in page.elements if tag == "circle"][:3] == ["0.00%", "50.00%", "100.00%"]


def test_the_trade_off_has_a_point_per_defense(rows: Rows) -> None:
    both = [{**row, "defense": row["defense"] and f"{name}.safetensors"} for name in "ab" for row in rows]
    settings = {f"{name}.safetensors": {"defense.count": count} for name, count in (("a", 10), ("b", 2))}
    chart = tradeoff_curves(both, settings, MAIN)
    assert chart is not None and [title for title, _ in chart.panels] == ["transfer", "informed", "adaptive"]
    line, control, plain = chart.panels[0][1]
    assert [point.text.split(":")[0] for point in line.points] == ["tokens 2", "tokens 10"] and line.joined
    assert not control.joined and plain.points[0].x == 1.0 and plain.points[0].y == pytest.approx(0.192)


def test_one_training_has_its_terms_and_several_a_panel_per_term() -> None:
    steps = [{"step": step, "invariance": 0.9, "adversarial": 0.1 * step, "undefended": None} for step in range(1, 4)]
    one = training_curves(steps)
    assert one is not None
    ((_, series),) = one.panels
    assert [line.name.split(" ")[0] for line in series] == ["clean", "adversarial"]
    assert [point.y for point in series[1].points] == pytest.approx([0.1, 0.2, 0.3])
    several = training_curves([{**row, "count": count, "seed": 0} for count in (2, 10) for row in steps])
    assert several is not None and [len(series) for _, series in several.panels] == [2, 2]
    assert several.panels[0][1][1].name == "10 tokens, seed 0"
    long = training_curves([{"step": step, "adversarial": step / 1000} for step in range(1000)])
    assert long is not None
    points = long.panels[0][1][0].points
    assert len(points) == 200 and points[-1].y == pytest.approx(0.997)  # a mean over the last five
    assert training_curves([]) is None


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.13, 0.31, ["-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3", "0.4"]),
        (0.5, 0.5, ["0.4", "0.6"]),
        (0.0, 4321.0, ["0", "1000", "2000", "3000", "4000", "5000"]),
    ],
)
def test_ticks_are_round_and_hold_the_range(low: float, high: float, ticks: list[str]) -> None:
    axis = Axis(low, high)
    assert [number for _, number in axis.ticks()] == ticks
    assert axis.low <= low <= high <= axis.high
    tight = Axis(low, high, tight=True)
    assert all(0 <= float(at) <= 100 for at, _ in tight.ticks())
