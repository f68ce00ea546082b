"""Summaries of per-image rows against numbers worked out by hand."""

from __future__ import annotations

import statistics
import tracemalloc

import numpy as np
import pytest

from rtok.results.columns import COLUMNS, Column
from rtok.results.rows import Identity
from rtok.results.summary import by_victim, flat_rows, numbers, over_attacks, summarize, write_csv
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


def images_of(*rows):
    (one,) = by_victim(rows)
    return one.images


def test_the_rows_of_a_part_come_image_by_image():
    records = [
        {"image": image, "group": "g", "rows": [{"part": part, "value": image} for part in ("rows", "curve")]}
        for image in ("b", "a")
    ]
    assert list(flat_rows(records)) == [{"image": x, "group": "g", "value": x} for x in "ba"]


def test_the_control_is_one_victim_with_several_draws():
    rows = [row(image, 1.0 + draw, "random", draw, areas=[draw]) for image in "ab" for draw in (0, 1)]
    (control,) = by_victim(rows)
    assert (control.draws, control.who.victim) == (2, "random")
    assert control.images.numbers["value"].tolist() == [[1.0, 2.0]] * 2
    assert control.images.lists["areas"] == [[[0], [1]]] * 2 and control.images.keys == ["a", "b"]
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
    found = over_attacks(by_victim(rows), "mean")
    assert [(one.who.threat, one.draws, one.images.numbers["value"].tolist()) for one in found] == [
        (threat, 2, [[value, value]] * 2) for threat, value in (("transfer", 2.0), ("adaptive", 12.0))
    ]
    assert {(one.who.attack, one.who.eps, one.who.steps) for one in found} == {("mean", None, None)}


def test_the_mean_over_attacks_joins_lists_and_keeps_what_was_seen():
    rows = [
        row(image, 0.1 * eps, attack=str(eps), areas=[eps], seen_in_training=image == "a", unknown=None)
        for eps in (1, 2, 4)
        for image in "ab"
    ]
    (found,) = over_attacks(by_victim(rows), "mean")
    assert found.images.numbers["value"].tolist() == [[statistics.fmean([0.1, 0.2, 0.4])]] * 2
    assert found.images.lists["areas"] == [[[1, 2, 4]]] * 2 and found.seen == 1
    assert np.isnan(found.images.numbers["unknown"]).all()


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
    (found,) = summarize(by_victim(rows), lambda images: numbers("eval-class", images))
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
    (found,) = summarize(by_victim(rows), lambda images: numbers("eval-class", images))
    assert found["x"] == pytest.approx(images.mean())
    assert found["ci95"]["x"] == pytest.approx(mean_interval(images, range(8)))
    averaged = mean_interval(images.mean(1), range(8))
    assert found["ci95"]["x"][1] - found["ci95"]["x"][0] > averaged[1] - averaged[0]


def test_numbers_stay_in_the_range_of_their_column(monkeypatch):
    monkeypatch.setitem(COLUMNS, "eval-class", (Column("x", "x", mean="mean", per_image="value", limits=(-1, 1)),))
    found = numbers("eval-class", images_of(row("a", 1 + 1e-7), row("b", 1.0), row("c", 1.0)))
    assert found["x"] == 1.0 and found["ci95"]["x"] == pytest.approx([1 - 2 * (1 - 0.05 ** (1 / 3)), 1.0])


def test_what_is_known_of_a_victim_has_no_interval(monkeypatch):
    monkeypatch.setitem(
        COLUMNS, "eval-class", (Column("x", "x", mean="mean", per_image="value", limits=(0, 1), exact=("plain",)),)
    )
    plain, robust = (
        numbers("eval-class", images_of(row("a", 1.0, victim), row("b", 1.0, victim))) for victim in ("plain", "robust")
    )
    assert plain["x"] == robust["x"] == 1.0
    assert plain["ci95"]["x"] is None and robust["ci95"]["x"] is not None


def test_csv_leaves_lists_out_and_is_written_row_by_row(tmp_path):
    write_csv(tmp_path / "a.csv", iter([{"image": "a", "value": None, "areas": [1]}, {"image": "b,c", "value": 0.1}]))
    assert (tmp_path / "a.csv").read_bytes() == b'image,value\na,\n"b,c",0.1\n'
    write_csv(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "image\n"


def test_repetitions_belong_to_their_images_in_whatever_order_they_come():
    rows = [row(image, float(number), "random", draw) for draw, order in enumerate(("ab", "ba"))
            for number, image in enumerate(order)]  # fmt: skip
    assert images_of(*rows).numbers["value"].tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_rows_of_many_images_take_little_memory():
    def rows(count):
        return (row(f"{number}.png", number / 7, text="transfer") for number in range(count))

    tracemalloc.start()
    try:
        (found,) = by_victim(rows(3000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.images) == 3000 and set(found.images.numbers) == {"value"}
    assert peak < 3000 * 300  # a row as a dict takes more than a thousand bytes
