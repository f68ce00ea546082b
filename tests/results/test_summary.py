"""Summaries of per-image rows against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.results.columns import COLUMNS, Column
from rtok.results.rows import Identity
from rtok.results.summary import by_victim, flat_rows, numbers, over_attacks, summarize, to_csv
from rtok.statistics import mean_interval, share_interval


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


def test_the_control_is_one_victim_with_several_draws():
    rows = [row(image, 1.0 + draw, "random", draw, areas=[draw]) for image in "ab" for draw in (0, 1)]
    (control,) = by_victim(rows)
    assert (control.draws, control.who.victim) == (2, "random")
    assert [[one["value"] for one in image] for image in control.images] == [[1.0, 2.0]] * 2
    assert [one.draws for one in by_victim([row("a", 1.0), *rows])] == [None, 2]
    assert by_victim([row("a", 1.0, "random", 0)])[0].draws == 1


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


def test_a_row_per_victim_with_its_numbers_and_intervals(monkeypatch):
    columns = [
        Column("x", "x", mean="mean", per_image="value"),
        Column("y", "y", mean="share", per_image="hit"),
        Column("few", "few", mean="mean", per_image="value", among="hit"),
        Column("z", "z", mean="mean"),
        Column("other", "other"),
    ]
    monkeypatch.setitem(COLUMNS, "eval-class", tuple(columns))
    rows = [row("a1", 1.0, hit=1.0, z=None), row("a2", 2.0, hit=0.0, z=None), row("b", 6.0, hit=None, z=None)]
    (found,) = summarize(rows, lambda images: numbers("eval-class", images))
    assert (found["victim"], found["images"], found["draws"]) == ("plain", 3, None)
    assert (found["x"], found["y"], found["few"], found["z"]) == (3.0, 0.5, 1.0, None) and "other" not in found
    assert found["ci95"] == {
        "x": pytest.approx(mean_interval([1, 2, 6], ["a", "a", "b"])),
        "y": pytest.approx(share_interval([1, 0], ["a", "a"])),
        "few": None,
        "z": None,
    }


def test_draws_of_the_control_widen_its_interval(monkeypatch):
    monkeypatch.setitem(COLUMNS, "eval-class", (Column("x", "x", mean="mean", per_image="value"),))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 1)) + rng.normal(size=(1, 4))
    rows = [row(str(i), images[i, draw], "random", draw) for i in range(8) for draw in range(4)]
    (found,) = summarize(rows, lambda images: numbers("eval-class", images))
    assert found["x"] == pytest.approx(images.mean())
    assert found["ci95"]["x"] == pytest.approx(mean_interval(images, range(8)))
    averaged = mean_interval(images.mean(1), range(8))
    assert found["ci95"]["x"][1] - found["ci95"]["x"][0] > averaged[1] - averaged[0]


def test_numbers_stay_in_the_range_of_their_column(monkeypatch):
    monkeypatch.setitem(COLUMNS, "eval-class", (Column("x", "x", mean="mean", per_image="value", limits=(-1, 1)),))
    found = numbers("eval-class", [[row("a", 1 + 1e-7)], [row("b", 1.0)], [row("c", 1.0)]])
    assert found["x"] == 1.0 and found["ci95"]["x"] == pytest.approx([1 - 2 * (1 - 0.05 ** (1 / 3)), 1.0])


def test_what_is_known_of_a_victim_has_no_interval(monkeypatch):
    monkeypatch.setitem(
        COLUMNS, "eval-class", (Column("x", "x", mean="mean", per_image="value", limits=(0, 1), exact=("plain",)),)
    )
    plain, robust = (
        numbers("eval-class", [[row("a", 1.0, victim)], [row("b", 1.0, victim)]]) for victim in ("plain", "robust")
    )
    assert plain["x"] == robust["x"] == 1.0
    assert plain["ci95"]["x"] is None and robust["ci95"]["x"] is not None


def test_csv_leaves_lists_out():
    assert to_csv([{"image": "a", "value": None, "areas": [1]}]) == "image,value\na,\n"
    assert to_csv([]) == "image\n"
