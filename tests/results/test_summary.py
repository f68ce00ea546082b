"""Summaries of per-image rows against numbers worked out by hand."""

from __future__ import annotations

import pytest

from rtok.results.columns import Column
from rtok.results.rows import Identity
from rtok.results.summary import by_victim, flat_rows, mean_over_draws, means, over_attacks, summarize, to_csv
from rtok.statistics import mean_interval, wilson


def row(image, value, victim="plain", draw=None, **more):
    return {
        **Identity(threat="transfer", victim=victim).columns(),
        "image": image,
        "group": image[0],
        "draw": draw,
        "value": value,
        **more,
    }


def test_rows_come_in_the_order_of_the_data():
    records = [
        {"image": image, "group": "g", "rows": [{"part": part, "value": image} for part in ("rows", "curve")]}
        for image in ("b", "a")
    ]
    assert flat_rows(records, ["a", "b"]) == [{"image": x, "group": "g", "value": x} for x in "ab"]


def test_the_control_is_one_victim_with_the_mean_of_its_draws():
    rows = [row(image, 1.0 + draw, "random", draw, areas=[draw]) for image in "ab" for draw in (0, 1)]
    (control,) = by_victim(rows)
    assert (control.draws, control.who.victim) == (2, "random")
    assert [(one["value"], one["areas"]) for one in control.rows] == [(1.5, [0, 1]), (1.5, [0, 1])]
    assert mean_over_draws(rows) == control.rows
    assert [one.draws for one in by_victim([row("a", 1.0), *rows])] == [None, 2]


def test_the_mean_over_attacks_keeps_draws_and_threats_apart():
    rows = [
        row(image, base + eps, "random", draw, threat=threat, attack=f"eps {eps}", eps=eps, steps=eps)
        for threat, base in (("transfer", 0.0), ("adaptive", 10.0))
        for draw in (0, 1)
        for eps in (1, 3)
        for image in "ab"
    ]
    found = over_attacks(rows, "mean")
    assert [(r["image"], r["draw"], r["threat"], r["value"]) for r in found] == [
        (image, draw, threat, value)
        for threat, value in (("transfer", 2.0), ("adaptive", 12.0))
        for draw in (0, 1)
        for image in "ab"
    ]
    assert {(r["attack"], r["eps"], r["steps"]) for r in found} == {("mean", None, None)}
    assert [one.draws for one in by_victim(found)] == [2, 2]


def test_a_row_per_victim_with_its_means_and_intervals():
    columns = [
        Column("x", "x", mean="mean", per_image="value"),
        Column("y", "y", mean="share", per_image="hit"),
        Column("z", "z", mean="mean"),
        Column("other", "other"),
    ]
    rows = [row("a1", 1.0, hit=1.0, z=None), row("a2", 2.0, hit=0.0, z=None), row("b", 6.0, hit=None, z=None)]

    def summary(members):
        found, intervals = means(members, columns)
        return {**found, "ci95": intervals}

    (found,) = summarize(rows, summary)
    assert (found["victim"], found["images"], found["draws"]) == ("plain", 3, None)
    assert (found["x"], found["y"], found["z"]) == (3.0, 0.5, None) and "other" not in found
    assert found["ci95"] == {
        "x": pytest.approx(mean_interval([1, 2, 6], ["a", "a", "b"])),
        "y": pytest.approx(wilson(1, 2)),
        "z": None,
    }


def test_csv_leaves_lists_out():
    assert to_csv([{"image": "a", "value": None, "areas": [1]}]) == "image,value\na,\n"
    assert to_csv([]) == "image\n"
