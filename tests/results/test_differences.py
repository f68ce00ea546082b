"""Paired differences against a direct computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtok.results import differences
from rtok.results.columns import Column
from rtok.results.iou import group_totals, mean_iou
from rtok.results.rows import KEYS
from rtok.results.summary import by_victim
from rtok.statistics import difference_interval, pooled_interval, share_difference_interval, sign_flip_p

MEAN = [Column("mean", "mean", mean="mean", per_image="value")]
VALUES = {
    ("plain", None, None): [0.1, 0.2, 0.3],
    ("random", None, 0): [0.2, 0.2, 0.2],
    ("random", None, 1): [0.4, 0.2, 0.6],
    ("robust", "a", None): [0.5, 0.4, 0.9],
    ("robust", "b", None): [0.6, 0.3, 0.7],
}


def paired_differences(rows: list[dict[str, Any]], columns: list[Column]) -> list[dict[str, Any]]:
    return differences.paired_differences(by_victim(rows), columns)


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
    control = list(zip(VALUES["random", None, 0], VALUES["random", None, 1], strict=True))
    for row, a, b in (
        (found[0], VALUES["robust", "a", None], control),
        (found[1], VALUES["robust", "a", None], VALUES["plain", None, None]),
        (found[4], VALUES["robust", "b", None], VALUES["robust", "a", None]),
    ):
        assert row["mean"] == pytest.approx(np.mean(a) - np.mean(b))
        assert row["ci95"]["mean"] == pytest.approx(difference_interval(a, b, groups))
        assert row["sign_flip_p"]["mean"] in (0.5, 1.0)  # two clusters


def test_differences_of_shares_and_of_pooled_numbers_have_their_own_intervals() -> None:
    def of(seed: int, victim: str, **more: Any) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        known = rows("transfer", victim, group="one")[:1] * 12
        return [
            {**row, "image": str(i), "group": i // 2, "hit": float(rng.random() < 0.6), "areas": areas(rng), **more}
            for i, row in enumerate(known)
        ]

    def areas(rng: np.random.Generator) -> list[list[int]]:
        return [[k, *sorted(rng.integers(1, 50, size=3).tolist())] for k in (0, 2)]

    columns = [
        Column("share", "share", mean="share", per_image="hit", limits=(0, 1)),
        Column("miou", "mIoU", per_image="areas", pooled=mean_iou, limits=(0, 1)),
    ]
    one, other = of(0, "robust"), of(1, "plain")
    (found,) = paired_differences([*one, *other], columns)
    groups = [row["group"] for row in one]
    hits = [[row["hit"] for row in side] for side in (one, other)]
    assert found["ci95"]["share"] == pytest.approx(share_difference_interval(*hits, groups))
    sums = [group_totals([[row["areas"]] for row in side], groups) for side in (one, other)]
    assert found["miou"] == pytest.approx(mean_iou(sums[0][0].sum(0)) - mean_iou(sums[1][0].sum(0)))
    expected = pooled_interval(mean_iou, sums[0], groups, (0, 1), sums[1])
    assert found["ci95"]["miou"] == pytest.approx(expected) and found["sign_flip_p"]["miou"] is None
    assert found["sign_flip_p"]["share"] == pytest.approx(sign_flip_p(*hits, groups))
    assert paired_differences([*of(0, "robust", areas=[]), *of(1, "plain", areas=[])], columns)[0]["miou"] is None


def test_the_white_box_attack_on_the_public_model_is_transfer() -> None:
    found = paired_differences([*rows("transfer", "plain", "random", "robust"), *rows("adaptive", "robust")], MEAN)
    adaptive = [row for row in found if row["threat"] == "adaptive"]
    assert [(row["baseline_victim"], row["baseline_threat"]) for row in adaptive] == [
        ("plain", "transfer"),
        ("plain", "transfer"),
        ("robust", "adaptive"),
    ]
    assert adaptive[0]["mean"] == pytest.approx((0.3 + 0.1 + 0.5) / 3)


def test_a_baseline_has_a_head_of_the_same_kind() -> None:
    """The own head against controls with their own, the public one against controls with that; plain has one head."""
    own = rows("transfer", "random", "robust", head_features="robust")
    for row in own:
        row["value"] += 0.01 if row["victim"] == "random" else 0.0
    public = rows("transfer", "plain", "random", "robust", head_features="plain")
    found = [row for row in paired_differences([*public, *own], MEAN) if row["defense"] == "a"]
    assert [(row["head_features"], row["baseline_victim"], row["baseline_head_features"]) for row in found] == [
        ("plain", "random", "plain"),
        ("plain", "plain", "plain"),
        ("robust", "random", "robust"),
        ("robust", "plain", "plain"),
    ]
    assert found[2]["mean"] == pytest.approx(found[0]["mean"] - 0.01)
    alone = paired_differences([*rows("transfer", "random", head_features="plain"), *own[6:]], MEAN)
    assert [row["baseline_victim"] for row in alone] == ["robust"]  # rather none than one with another head


def test_the_control_has_the_same_budget() -> None:
    budgets = [(10, "cold"), (10, "transfer"), (20, "cold")]
    queried = [
        row | {"value": row["value"] + (number if row["victim"] == "random" else 0)}
        for number, (queries, start) in enumerate(budgets)
        for row in rows("query", "random", "robust", queries=queries, start=start)
    ]
    found = [row for row in paired_differences(queried, MEAN) if row["defense"] == "a"]
    assert [(row["queries"], row["start"]) for row in found] == budgets
    assert [found[0]["mean"] - row["mean"] for row in found] == pytest.approx([0, 1, 2])


def test_another_attack_is_no_baseline_and_unknown_values_drop_out() -> None:
    other = rows("transfer", "plain", attack="l2")
    assert paired_differences([*other, *rows("transfer", "robust")], MEAN)[0]["defense"] == "b"
    known = rows("transfer", "plain", "robust")
    known[0]["value"] = None
    found = paired_differences(known, MEAN)[0]
    assert found["mean"] == pytest.approx((0.2 + 0.6) / 2)
    alone = rows("transfer", "plain", "robust", group="one")
    assert paired_differences(alone, MEAN)[0]["ci95"] == {"mean": None}
