"""What is run: ensembles, starts, restarts, queries and the curve, on a small model."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from tests.evaluation.helpers import column, images, opened, run

VICTIMS = ("random", "robust")


def test_an_ensemble_is_the_worst_of_its_variants_per_image(small: dict[str, Any], tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [{}, {"momentum": 1.0}, {"diversity": 0.5}, {"layer": 0.5}]
    attack = {"preset": "standard", "steps": 3}
    threats = ["transfer", "adaptive"]
    run(small, tmp_path / "all", attack={**attack, "variants": variants}, threats=threats)
    for threat in threats:
        alone = []
        for i, variant in enumerate(variants):
            out = tmp_path / f"{threat}{i}"
            run(small, out, attack={**attack, **variant}, threats=[threat])
            alone.append(column(out, victim="robust"))
        assert len({round(float(values.sum()), 4) for values in alone}) == 4  # each is an attack of its own
        found = column(tmp_path / "all", victim="robust", threat=threat)
        torch.testing.assert_close(found, torch.stack(alone).amin(0))


def test_the_middle_layer_is_attacked_through_its_features(small: dict[str, Any], tmp_path: Path) -> None:
    run(small, tmp_path / "run", attack={"preset": "intermediate", "steps": 3}, threats=["transfer"])
    backbone, batch = opened(small)

    def middle(images: torch.Tensor) -> torch.Tensor:
        return backbone.intermediate(images, [1])[0]  # half of four blocks

    objective = Objective(FixedSurrogate(middle), FeatureCriterion(middle(batch.images), "channel"))
    adversarial = craft(PGD(steps=3), batch.images, objective, Context(batch.keys)).images
    expected = F.cosine_similarity(backbone(adversarial), backbone(batch.images), dim=-1).mean(1)
    torch.testing.assert_close(column(tmp_path / "run", victim="plain"), expected, atol=1e-4, rtol=0)


def test_adaptive_from_transfer_is_nowhere_weaker(small: dict[str, Any], tmp_path: Path) -> None:
    attack = {"preset": "standard", "steps": 2, "init": "transfer"}
    results = run(small, tmp_path / "run", attack=attack, threats=["transfer", "adaptive"])
    transfer, adaptive = (
        column(tmp_path / "run", victim="robust", threat=threat) for threat in ("transfer", "adaptive")
    )
    assert (adaptive <= transfer + 1e-6).all() and (adaptive < transfer - 1e-4).any()
    cost = {row["threat"]: (row["gradients"], row["ci95"]["gradients"]) for row in results["rows"]}
    assert cost == {"transfer": (2, None), "adaptive": (2 + 2 * 2, None)}  # what it starts from, and two targets
    run(small, tmp_path / "cold", attack={**attack, "init": "uniform"}, threats=["transfer", "adaptive"])
    torch.testing.assert_close(column(tmp_path / "cold", victim="robust", threat="transfer"), transfer)
    assert not torch.allclose(column(tmp_path / "cold", victim="robust", threat="adaptive"), adaptive)


def test_restarts_do_not_weaken_a_start_from_transfer(small: dict[str, Any], tmp_path: Path) -> None:
    means = []
    for restarts in (1, 3):
        attack = {"preset": "standard", "steps": 2, "init": "transfer", "restarts": restarts}
        run(small, tmp_path / str(restarts), attack=attack, threats=["adaptive"])
        means.append(float(column(tmp_path / str(restarts), victim="robust").mean()))
        found = images(tmp_path / str(restarts), victim="robust")
        gradients = (1 + 2) * 2 * restarts  # transfer and two targets
        scores = (1 + 2) * restarts if restarts > 1 else 0  # which restart was the strongest
        assert {(row["gradients"], row["forwards"]) for row in found} == {(str(gradients), str(gradients + scores))}
    assert means[1] <= means[0] + 1e-6


def test_queries_cold_and_from_transfer(small: dict[str, Any], tmp_path: Path) -> None:
    query = {"threats": ["transfer", "query"], "query": {"queries": [5, 40]}}
    results = run(small, tmp_path / "run", **query)
    rows = [row for row in results["rows"] if row["threat"] == "query"]
    told = [(row["victim"], row["queries"], row["start"], row["steps"], row["attack"]) for row in rows]
    name = "standard, steps 3"
    budgets = [(n, start) for n in (5, 40) for start in ("cold", "transfer")]
    assert told == [(victim, *budget, None, name) for victim in ("random", "robust") for budget in budgets]
    compared = [row for row in results["differences"] if (row["threat"], row["baseline_victim"]) == ("query", "random")]
    assert [(row["queries"], row["start"]) for row in compared] == budgets
    both = [{(r["queries"], r["start"]): r["cosine_to_plain"] for r in rows if r["victim"] == v} for v in VICTIMS]
    for row, budget in zip(compared, budgets, strict=True):
        assert row["cosine_to_plain"] == pytest.approx(both[1][budget] - both[0][budget])
    wanted = {"threat": "query", "victim": "robust"}
    found = {
        (n, start): column(tmp_path / "run", "cosine_to_plain_alone", **wanted, queries=str(n), start=start).mean()
        for n, start in budgets
    }
    assert found[40, "cold"] < found[5, "cold"] and found[40, "transfer"] < found[5, "transfer"]
    warm = column(tmp_path / "run", threat="query", victim="robust", queries="5", start="transfer")
    assert (warm <= column(tmp_path / "run", threat="transfer", victim="robust") + 1e-6).all()
    run(small, tmp_path / "one", **query, batch_size=1)
    for start in ("cold", "transfer"):
        wanted = {"threat": "query", "victim": "robust", "queries": "40", "start": start}
        same = [column(tmp_path / o, **wanted) for o in ("run", "one")]
        torch.testing.assert_close(*same, atol=1e-3, rtol=0)


def test_a_curve_has_every_victim_and_threat_at_every_radius(small: dict[str, Any], tmp_path: Path) -> None:
    radii = [0.5 / 255, 8 / 255]
    attack = {"preset": "paper", "steps": 2}
    threats = ["transfer", "adaptive"]
    results = run(small, tmp_path / "run", attack=attack, threats=threats, curve=radii)
    who = [(row["eps"], row["threat"], row["victim"]) for row in results["curve"]]
    victims = [("transfer", "plain")]
    victims += [(threat, victim) for threat in ("transfer", "adaptive") for victim in ("random", "robust")]
    assert who == [(radius, *victim) for radius in radii for victim in victims]
    assert {row["attack"] for row in results["curve"] + results["rows"]} == {"paper, steps 2"}
    assert {row["units"] for row in results["curve"]} == {"pixel"} and len(results["rows"]) == 5
    alone = run(
        small,
        tmp_path / "alone",
        attack={"eps": 8 / 255, "steps": 2, "quantize": "none", "axis": "token"},
        threats=threats,
    )
    for curved, row in zip(results["curve"][5:], alone["rows"], strict=True):
        assert curved["cosine_to_plain"] == pytest.approx(row["cosine_to_plain"], abs=1e-6)
        assert curved["ci95"] == row["ci95"]
    with (tmp_path / "run" / "curve.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["cosine_to_plain"]) for line in lines] == [row["cosine_to_plain"] for row in results["curve"]]
    assert float(lines[0]["cosine_to_plain_low"]) == results["curve"][0]["ci95"]["cosine_to_plain"][0]
    assert (tmp_path / "run" / "curve.png").exists()
    assert len(column(tmp_path / "run", victim="plain")) == 7  # per_image.csv holds the attack itself only
