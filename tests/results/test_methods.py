"""Seeds of one training, against a direct computation over images and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.results.columns import COLUMNS, Column
from rtok.results.methods import Seed, method_rows
from rtok.results.rows import KEYS
from rtok.results.summary import by_victim, numbers
from rtok.statistics import difference_interval, mean_interval

X = Column("x", "x", mean="mean", per_image="value", limits=(-1, 1), paired=True)
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(-0.3, 0.3, size=(7, 1))
ROBUST = IMAGE + 0.3 + RNG.uniform(-0.1, 0.1, size=(1, 4)) + RNG.uniform(-0.1, 0.1, size=(7, 4))
CONTROL = IMAGE + RNG.uniform(-0.1, 0.1, size=(1, 3)) + RNG.uniform(-0.1, 0.1, size=(7, 3))
FILES = ["a", "b", "c", "d"]
SEEDS = {file: Seed("one training", (0, number)) for number, file in enumerate(FILES)}


@pytest.fixture(autouse=True)
def _columns(monkeypatch):
    monkeypatch.setitem(COLUMNS, "eval-class", (X,))


def rows(victim, values, defense=None, draw=None, **more):
    about = {"threat": "transfer", "victim": victim, "defense": defense, "n": 10, "draw": draw}
    return [
        {**dict.fromkeys(KEYS), **about, "image": str(i), "group": i, "value": value, **more}
        for i, value in enumerate(values)
    ]


def everything(**more):
    found = [row for draw in range(3) for row in rows("random", CONTROL[:, draw], draw=draw)]
    found += [row for column, file in enumerate(FILES) for row in rows("robust", ROBUST[:, column], file, **more)]
    return found


def methods(known, seeds=SEEDS):
    return method_rows(by_victim(known), seeds, lambda images: numbers("eval-class", images), [X])


def test_a_method_has_the_mean_and_spread_over_its_seeds():
    (found,) = methods(everything())
    assert (found["defense"], found["defenses"], found["seeds"], found["images"]) == (None, FILES, 4, 7)
    assert found["x"] == pytest.approx(ROBUST.mean())
    assert found["std"] == {"x": pytest.approx(ROBUST.mean(0).std(ddof=1))}
    assert found["ci95"]["x"] == pytest.approx(mean_interval(ROBUST, range(7), (-1, 1)))
    of_images = mean_interval(ROBUST.mean(1), range(7), (-1, 1))
    assert found["ci95"]["x"][1] - found["ci95"]["x"][0] > of_images[1] - of_images[0]


def test_its_difference_to_the_control_counts_seeds_and_draws():
    (found,) = methods(everything())
    (difference,) = found["differences"]
    assert difference["baseline_victim"] == "random" and difference["victim"] == "robust"
    assert difference["x"] == pytest.approx(ROBUST.mean() - CONTROL.mean())
    assert difference["ci95"]["x"] == pytest.approx(difference_interval(ROBUST, CONTROL, range(7), (-1, 1)))
    assert difference["sign_flip_p"]["x"] == 2 / 2**7


def test_only_other_seeds_of_the_same_training_belong_together():
    assert methods(everything(), {"a": SEEDS["a"]}) == [] and methods(everything(), {}) == []
    other = {**SEEDS, "c": Seed("another", (0, 2)), "d": Seed("another", (0, 3))}
    assert [found["defenses"] for found in methods(everything(), other)] == [["a", "b"], ["c", "d"]]
    twice = {**SEEDS, "b": SEEDS["a"]}  # a copy is not another seed
    assert [found["defenses"] for found in methods(everything(), twice)] == [["a", "c", "d"]]
    heads = [{**row, "head_features": row["defense"] and ("plain" if row["defense"] in "ab" else "robust")}
             for row in everything()]  # fmt: skip
    assert [found["defenses"] for found in methods(heads)] == [["a", "b"], ["c", "d"]]
