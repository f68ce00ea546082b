"""Paired differences against a direct computation."""

from __future__ import annotations

from typing import Any

import pytest

from rtok.results.columns import Column
from rtok.results.differences import paired_differences
from rtok.results.rows import KEYS
from rtok.statistics import paired_bootstrap

MEAN = [Column("mean", "mean", per_image="value")]
VALUES = {
    ("plain", None, None): [0.1, 0.2, 0.3],
    ("random", None, 0): [0.2, 0.2, 0.2],
    ("random", None, 1): [0.4, 0.2, 0.6],
    ("robust", "a", None): [0.5, 0.4, 0.9],
    ("robust", "b", None): [0.6, 0.3, 0.7],
}


def rows(threat: str, *kinds: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            **dict.fromkeys(KEYS),
            "attack": "paper",
            "threat": threat,
            "victim": victim,
            "defense": defense,
            "n": None if victim == "plain" else 10,
            "draw": draw,
            "image": f"{i}.png",
            "group": f"{i // 2}",
            "value": value - (0.1 if threat == "adaptive" else 0.0),
            **more,
        }
        for (victim, defense, draw), values in VALUES.items()
        if victim in kinds
        for i, value in enumerate(values)
    ]


def test_robust_is_compared_with_its_baselines_image_by_image() -> None:
    found = paired_differences(rows("transfer", "plain", "random", "robust"), MEAN)
    assert [(row["defense"], row["baseline_victim"], row["baseline_defense"]) for row in found] == [
        ("a", "random", None),
        ("a", "plain", None),
        ("b", "random", None),
        ("b", "plain", None),
        ("b", "robust", "a"),
    ]
    groups = ["0", "0", "1"]
    for row, a, b in (
        (found[0], VALUES["robust", "a", None], [0.3, 0.2, 0.4]),
        (found[1], VALUES["robust", "a", None], VALUES["plain", None, None]),
        (found[4], VALUES["robust", "b", None], VALUES["robust", "a", None]),
    ):
        mean, low, high = paired_bootstrap(a, b, groups)
        assert row["mean"] == pytest.approx(mean) and row["ci95"]["mean"] == pytest.approx([low, high])


def test_the_white_box_attack_on_the_public_model_is_transfer() -> None:
    found = paired_differences([*rows("transfer", "plain", "random", "robust"), *rows("adaptive", "robust")], MEAN)
    adaptive = [row for row in found if row["threat"] == "adaptive"]
    assert [(row["baseline_victim"], row["baseline_threat"]) for row in adaptive] == [
        ("plain", "transfer"),
        ("plain", "transfer"),
        ("robust", "adaptive"),
    ]
    assert adaptive[0]["mean"] == pytest.approx((0.3 + 0.1 + 0.5) / 3)


def test_another_attack_is_no_baseline_and_unknown_values_drop_out() -> None:
    other = rows("transfer", "plain", attack="l2")
    assert paired_differences([*other, *rows("transfer", "robust")], MEAN)[0]["defense"] == "b"
    known = rows("transfer", "plain", "robust")
    known[0]["value"] = None
    found = paired_differences(known, MEAN)[0]
    assert found["mean"] == pytest.approx((0.2 + 0.6) / 2)
    alone = rows("transfer", "plain", "robust", group="one")
    assert paired_differences(alone, MEAN)[0]["ci95"] == {"mean": None}
