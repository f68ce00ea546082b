"""What is run under which threat: ensembles, starts, queries, guessed tokens and the curve, on a small model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from rtok.attacks import PGD, Attack, Context, Crafted, FeatureCriterion, FixedSurrogate, Objective, Perturbed, craft
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import Batch, evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from rtok.evaluation.threats import BoundSurrogate
from rtok.models import Backbone, load_backbone

VICTIMS = ("random", "robust")


def run(small: dict[str, Any], out: Path, **changes: Any) -> dict[str, Any]:
    return evaluate_features(Config.model_validate({**small, "batch_size": 7, "out": str(out), **changes}))


def images(out: Path, **wanted: str) -> list[dict[str, str]]:
    """The rows of one victim under one threat, one per image."""
    with (out / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if all(row[k] == v for k, v in wanted.items())]
    assert len(rows) == 7
    return rows


def column(out: Path, name: str = "cosine_to_plain", **wanted: str) -> torch.Tensor:
    """The headline of every image, or another number."""
    return torch.tensor([float(row[name]) for row in images(out, **wanted)])


def opened(small: dict[str, Any]) -> tuple[Backbone, Batch]:
    config = Config.model_validate(small)
    backbone = load_backbone("dinov2_vits14", weights=config.model.weights, image_size=28)
    source = open_source(config.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=7, seed=0)
    return backbone, batch


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


def test_what_an_attack_starts_from_is_a_result_too(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack that loses everything on its way is still no weaker than its start."""
    pgd = PGD.run

    def useless(self: PGD, images: torch.Tensor, objective: Objective, context: Context) -> Perturbed:
        if context.start is not None:
            return Perturbed(images, images[:, 0, 0, 0])
        return pgd(self, images, objective, context)

    monkeypatch.setattr(PGD, "run", useless)
    attack = {"preset": "standard", "steps": 2, "init": "transfer"}
    run(small, tmp_path / "run", attack=attack, threats=["transfer", "adaptive"])
    transfer, adaptive = (
        column(tmp_path / "run", victim="robust", threat=threat) for threat in ("transfer", "adaptive")
    )
    assert torch.equal(adaptive, transfer)


@pytest.fixture
def only_on_plain(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """No attack finds anything on another model than the plain one; the list has, for each, whether it was on that."""
    calls = list[bool]()

    def crafted(attack: Attack, images: torch.Tensor, objective: Objective, context: Context) -> Crafted:
        assert isinstance(objective.surrogate, BoundSurrogate)
        calls.append(getattr(objective.surrogate.crafted_on, "role", None) == "plain")
        found = craft(attack, images, objective, context)
        return found if calls[-1] else replace(found, images=images)

    monkeypatch.setattr("rtok.evaluation.loop.craft", crafted)
    return calls


def test_what_transfer_finds_counts_under_every_threat(
    small: dict[str, Any], tmp_path: Path, only_on_plain: list[bool]
) -> None:
    """And is crafted once, for the rows and once for each radius of the curve."""
    threats = ["adaptive", "guessed", "informed", "query", "transfer"]
    more = {"guessed": small["tokens"], "query": {"queries": [1], "starts": ["cold"]}, "curve": [4 / 255]}
    results = run(small, tmp_path / "run", threats=threats, **more)
    figures = 1  # which show the images of transfer
    assert (
        sum(only_on_plain) == 2 + figures and len(only_on_plain) == 2 * (3 * 2 + 1 + 1 + 3 + 1) + figures
    )  # two draws, robust
    transfer, fidelity = (
        column(tmp_path / "run", name, victim="robust", threat="transfer") for name in ("cosine_to_plain", "fidelity")
    )
    for threat in threats:
        rows = images(tmp_path / "run", victim="robust", threat=threat)
        assert {row["worst_from"] for row in rows} == {"transfer"}
        assert torch.equal(column(tmp_path / "run", victim="robust", threat=threat), transfer)
        alone = column(tmp_path / "run", "cosine_to_plain_alone", victim="robust", threat=threat)
        torch.testing.assert_close(alone, transfer if threat == "transfer" else fidelity)
    curve = {row["threat"]: row["cosine_to_plain"] for row in results["curve"] if row["victim"] == "robust"}
    assert set(curve) == set(threats) and len(set(curve.values())) == 1


def test_no_threat_is_weaker_than_one_that_it_contains(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack that does nothing to the defended model itself reports what those without the defense found."""
    calls = 0

    def crafted(attack: Attack, images: torch.Tensor, objective: Objective, context: Context) -> Crafted:
        nonlocal calls
        calls += 1
        assert isinstance(objective.surrogate, BoundSurrogate)
        white_box = getattr(objective.surrogate.crafted_on, "role", "plain") != "plain"
        found = craft(attack, images, objective, context)
        return replace(found, images=images) if white_box else found

    monkeypatch.setattr("rtok.evaluation.loop.craft", crafted)
    threats = ["adaptive", "extracted", "guessed", "informed"]
    extracted = {"queries_per_image": 1, "steps": 2}
    more = {"control_draws": 1, "guessed": small["tokens"], "extracted": extracted, "threats": threats}
    run(small, tmp_path / "run", **more)
    assert calls == 1 + 2 * 2 + 2 + 1 + 1  # transfer, two targets for the control and for robust, copies, ...
    contained = {
        "adaptive": {"transfer", "extracted", "guessed", "informed"},
        "extracted": {"transfer", "informed", "extracted"},
        "guessed": {"transfer", "informed", "guessed"},
        "informed": {"transfer", "informed"},
    }
    for victim in VICTIMS:
        wanted = {"victim": victim}
        found = {threat: column(tmp_path / "run", **wanted, threat=threat) for threat in threats}
        alone = {
            threat: column(tmp_path / "run", "cosine_to_plain_alone", **wanted, threat=threat) for threat in threats
        }
        torch.testing.assert_close(alone["adaptive"], column(tmp_path / "run", "fidelity", **wanted, threat="adaptive"))
        for threat, weaker in contained.items():
            for other in weaker - {"transfer"}:
                assert (found[threat] <= alone[other]).all()
            origins = [row["worst_from"] for row in images(tmp_path / "run", **wanted, threat=threat)]
            assert set(origins) <= weaker
            for b, origin in enumerate(origins):
                assert origin == "transfer" or found[threat][b] == alone[origin][b]
        assert torch.equal(found["adaptive"], torch.minimum(found["extracted"], found["guessed"]))
    run(small, tmp_path / "twos", **more, batch_size=2)
    ones = {"victim": "robust", "threat": "adaptive"}
    seven, twos = (images(tmp_path / out, **ones) for out in ("run", "twos"))
    assert [row["worst_from"] for row in seven] == [row["worst_from"] for row in twos]
    torch.testing.assert_close(*(column(tmp_path / out, **ones) for out in ("run", "twos")), atol=1e-5, rtol=0)


def test_of_equal_results_the_threats_own_counts(
    small: dict[str, Any], tmp_path: Path, only_on_plain: list[bool]
) -> None:
    attack = {"preset": "standard", "eps": 1e-9, "init": "none", "steps": 1}
    run(small, tmp_path / "run", attack=attack, threats=["adaptive"])
    assert {row["worst_from"] for row in images(tmp_path / "run", victim="robust")} == {"adaptive"}


def test_a_row_does_not_depend_on_which_other_threats_are_listed(small: dict[str, Any], tmp_path: Path) -> None:
    query = {"query": {"queries": [1], "starts": ["cold"]}}
    alone = run(small, tmp_path / "alone", threats=["query"], **query)
    beside = run(small, tmp_path / "beside", threats=["transfer", "query"], **query)
    assert alone["rows"] == [row for row in beside["rows"] if row["threat"] == "query"]


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


def test_guessed_tokens_are_attacked_through(
    small: dict[str, Any], tmp_path: Path, make_tokens: Callable[[str, int], str]
) -> None:
    """An attacker who guessed right crafts on the victim itself, away from plain(clean)."""
    own = make_tokens("guess", 0)
    run(small, tmp_path / "run", threats=["guessed"], guessed=own)
    backbone, batch = opened(small)
    r, target = RobustnessTokens.load(Path(own)).values, backbone(batch.images)
    objective = Objective(FixedSurrogate(lambda x: backbone(x, r)), FeatureCriterion(target, "channel"))
    adversarial = craft(PGD(steps=3), batch.images, objective, Context(batch.keys)).images
    expected = F.cosine_similarity(backbone(adversarial, r), target, dim=-1).mean(1)
    wanted = {"threat": "guessed", "victim": "robust"}
    found = column(tmp_path / "run", "cosine_to_plain_alone", **wanted)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    other = make_tokens("other", 5)
    run(small, tmp_path / "two", threats=["guessed"], guessed=[own, other])
    assert not torch.allclose(column(tmp_path / "two", "cosine_to_plain_alone", **wanted), found, atol=1e-4)


def test_the_attacker_trains_their_own_tokens(small: dict[str, Any], tmp_path: Path) -> None:
    """As the victim's file says it was trained, but from other seeds; a resumed run finds them again."""
    recipe = {
        "tokens": {"init_std": 0.02},
        "attack": {"preset": "paper", "steps": 1},
        "train": {"steps": 2, "batch_size": 2},
        "data": {"resize": "random-crop"},
    }
    tokens = RobustnessTokens.draw(4, 64, backbone="dinov2_vits14", image_size=(28, 28))
    tokens = replace(tokens, config=recipe)
    tokens.save(tmp_path / "known.safetensors")
    changes = {
        "tokens": str(tmp_path / "known.safetensors"),
        "threats": ["guessed"],
        "guessed": {"train": 2},
        "seed": 3,
    }
    results = run(small, tmp_path / "run", **changes)
    assert [(row["threat"], row["victim"]) for row in results["rows"]] == [("guessed", "random"), ("guessed", "robust")]
    files = sorted((tmp_path / "run" / "guessed").glob("rtokens*.safetensors"))
    made = [RobustnessTokens.load(file) for file in files]
    assert [one.values.shape for one in made] == [(1, 4, 64)] * 2
    assert not torch.equal(made[0].values, made[1].values)
    config = made[0].config
    assert config["data"]["resize"] == "random-crop" and config["data"]["split"] == "train"
    assert (config["train"]["steps"], config["attack"]["steps"], config["defense"]["init_std"]) == (2, 1, 0.02)
    assert 0 not in config["defense"]["seeds"] and config["seed"] not in (0, 3)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "finished": False}))
    times = [file.stat().st_mtime_ns for file in files]
    run_again = Config.model_validate({**small, "batch_size": 7, "out": str(tmp_path / "run"), **changes})
    again = evaluate_features(run_again, resume=True)
    assert again["rows"] == results["rows"] and [file.stat().st_mtime_ns for file in files] == times


def test_guessed_without_tokens_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the attacker's token files"):
        run(small, tmp_path / "run", threats=["guessed"])
    assert not (tmp_path / "run").exists()


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
