"""What counts under a threat that another one found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rtok.attacks import PGD, Attack, Context, Crafted, Objective, Perturbed, craft
from rtok.evaluation.threats import BoundSurrogate
from tests.evaluation.helpers import column, images, run


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
    for victim in ("random", "robust"):
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
