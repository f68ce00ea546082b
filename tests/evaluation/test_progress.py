"""Where inside a batch every command is: named, and with a share that grows from 0 to 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rtok import console
from rtok.config.schema import Config
from rtok.evaluation.adversarial import make_adversarial_set
from rtok.training import train
from tests.evaluation.helpers import run


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    """Per change what the console is told: the label of the progress, the words, and how much of a unit is done."""
    seen: list[tuple[str, str, float]] = []

    def look(bar: console.Progress) -> None:
        seen.append((bar.label, bar._activity.text, bar._activity.share))

    monkeypatch.setattr(console.Progress, "_look", look)
    return seen


def of(told: list[tuple[str, str, float]], label: str) -> list[str]:
    shares = [share for name, _, share in told if name == label]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] <= 1
    return [text for name, text, _ in told if name == label]


def test_an_evaluation_names_threat_victim_restart_and_step(
    small: dict[str, Any], tmp_path: Path, told: list[tuple[str, str, float]]
) -> None:
    attack = {"preset": "standard", "steps": 2, "restarts": 2}
    run(small, tmp_path / "run", attack=attack, threats=["transfer", "adaptive"], control_draws=1)
    texts = of(told, "eval-features")
    steps = [text for text in texts if "step" in text]
    assert steps[:4] == [f"transfer, restart {restart}/2, step {step}/2" for restart in (1, 2) for step in (1, 2)]
    assert steps[4:6] == [f"adaptive, random 1, run 1/2, restart 1/2, step {step}/2" for step in (1, 2)]
    assert steps[-1] == "adaptive, robust, run 2/2, restart 2/2, step 2/2"
    assert len(steps) == 4 * (1 + 2 + 2)


def test_batches_after_the_first_are_told_by_the_clock(
    small: dict[str, Any], tmp_path: Path, told: list[tuple[str, str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    time = iter(range(10**6))
    monkeypatch.setattr("rtok.evaluation.schedule.time.perf_counter", lambda: next(time))
    attacks = [{"preset": "standard", "steps": steps} for steps in (1, 3)]
    run(small, tmp_path / "run", attack=attacks, threats=["transfer"], batch_size=4, control_draws=1)
    begins = [share for _, text, share in told if text == "standard, steps 3, transfer"]
    assert begins == [pytest.approx(1 / 4), pytest.approx(1 / 2)]  # by their steps, then by their equal seconds


def test_sanity_a_set_and_a_training_tell_their_steps(
    small: dict[str, Any], tmp_path: Path, told: list[tuple[str, str, float]]
) -> None:
    sanity = {"images": 2, "queries": 3}
    run(small, tmp_path / "run", sanity=sanity, threats=["adaptive"], control_draws=1)
    texts = [text for label, text, _ in told if label == "sanity"]
    assert {"step 1/3", "step 10/10", "query 2/2"} <= set(texts)  # the attack, its continuation, random search

    config = {key: small[key] for key in ("model", "data", "attack")} | {"batch_size": 7}
    make_adversarial_set(Config.model_validate({**config, "out": str(tmp_path / "set")}))
    assert of(told, "attack")[:4] == ["transfer, plain", *(f"transfer, plain, step {step}/3" for step in (1, 2, 3))]

    for threat, words in (("transfer", ["attack"]), ("mixed", ["attack", "attack through 2", "attack through 3"])):
        del told[:]
        defense = {"kind": "tokens", "count": [2, 3]}
        steps = {"steps": 1, "batch_size": 4, "threat": threat}
        train(Config.model_validate({**config, "defense": defense, "train": steps, "out": str(tmp_path / threat)}))
        assert [text.removesuffix(", step 2/3") for text in of(told, "train") if text.endswith("step 2/3")] == words
