"""eval-class: its files, runs that can be cut anywhere, and adversarial sets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rtok.config.attack import read_attack
from rtok.config.registry import ATTACKS
from rtok.evaluation import evaluate_classification, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.runs.folder import EXAMPLES
from tests.evaluation.tasks.classification.helpers import ATTACK, EVERY_ATTACK, FILES, HEADS, config, save_tokens
from tests.evaluation.tasks.results import assert_same_rows, per_image, rows_of


def test_rows_and_files(settings: dict[str, Any]) -> None:
    attacks = [ATTACK, {"preset": "paper", "steps": 2, "quantize": "round"}]
    cfg = config(settings, attack=attacks)
    results = evaluate_classification(cfg)
    assert sorted(path.name for path in cfg.out.iterdir()) == FILES
    assert sorted(path.stem for path in (cfg.out / "heads").iterdir()) == HEADS
    assert json.loads((cfg.out / "results.json").read_text()) == results
    both = [(victim, head) for victim in ("random", "robust") for head in ("plain", "robust")]
    expected = [("transfer", "plain", "plain")]
    expected += [(threat, *who) for threat in ("transfer", "informed", "adaptive") for who in both]
    found = [(row["threat"], row["victim"], row["head_features"]) for row in results["rows"]]
    assert found == expected * 2
    assert results["command"] == "eval-class" and results["images"] == 9
    informed, adaptive = (rows_of(results, threat=threat, victim="robust")[1] for threat in ("informed", "adaptive"))
    assert informed["surrogate_success"] is None and informed["ci95"]["accuracy_on_success"] is None
    assert adaptive["surrogate_success"] is not None
    # 9 images x 2 attacks x (plain, under three threats two heads of two draws and of the robust victim)
    assert len(per_image(cfg.out)) == 9 * 2 * (1 + 3 * 2 * 3)


def test_examples_name_the_victims_that_there_are(settings: dict[str, Any]) -> None:
    data = {**settings["data"], "limit": 1}
    cfg = config(settings, tokens=None, threats=["transfer"], data=data)
    evaluate_classification(cfg)
    (example,) = json.loads((cfg.out / EXAMPLES).read_text())["examples"]
    _, seen = example["title"].split("; ")
    assert seen.startswith("plain: ") and "robust" not in seen


def test_rows_do_not_depend_on_the_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    data = {**settings["data"], "limit": 3}
    settings |= {"attack": EVERY_ATTACK, "threats": ["transfer"], "data": data}
    assert {read_attack(attack).method for attack in EVERY_ATTACK} == {name for name in ATTACKS if name != "from"}
    for size in (1, 3):
        evaluate_classification(config(settings, batch_size=size, out=tmp_path / str(size)))
    assert_same_rows(tmp_path / "1", tmp_path / "3")


def test_two_processes_give_the_rows_of_one(
    settings: dict[str, Any],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_rtok: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    monkeypatch.undo()  # processes of their own know the real model only
    settings["model"]["weights"] = str(weights)
    settings |= {"threats": ["transfer"], "tokens": save_tokens(tmp_path / "wide.safetensors", dim=384)}
    settings |= {"attack": EVERY_ATTACK, "control_draws": 1, "data": {**settings["data"], "limit": 3}}
    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(settings))
    evaluate_classification(config(settings, out=tmp_path / "one"))
    done = run_rtok("eval-class", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES
    assert_same_rows(tmp_path / "one", tmp_path / "two")


def test_an_interrupted_evaluation_resumes_to_the_same_files(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_classification(config(settings, out=tmp_path / "whole", batch_size=3))
    cut = config(settings, out=tmp_path / "cut", batch_size=3)
    evaluate, calls = Evaluator.evaluate, []

    def interrupted(self: Evaluator, batch: Any) -> Any:
        calls.append(batch.keys)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, batch)

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_classification(cut)
    monkeypatch.setattr("rtok.heads.classifiers.fit_probe", None)  # the heads are there: nothing is fitted again
    evaluate_classification(cut, resume=True)
    assert [len(keys) for keys in calls] == [3, 3, 3, 3] and calls[1] == calls[2]
    for name in ("per_image.csv", "results.json"):
        assert (cut.out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in cut.out.iterdir()) == FILES


def test_a_run_killed_while_fitting_resumes(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_classification(config(settings, out=tmp_path / "whole"))
    cut = config(settings, out=tmp_path / "cut")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("rtok.heads.classifiers.fit_probe", killed)
        evaluate_classification(cut)
    assert sorted(path.stem for path in (cut.out / "state").glob("*.npy")) == [f"features-{name}" for name in HEADS]
    evaluate_classification(cut, resume=True)
    assert (cut.out / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()


def test_an_adversarial_set_on_labels(settings: dict[str, Any], tmp_path: Path) -> None:
    made = make_adversarial_set(config(settings, tokens=None, out=tmp_path / "set"))
    assert made.images == 9
    about = json.loads((tmp_path / "set" / "attack.json").read_text())
    assert about["objective"] == "labels"
    names = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert names == ["attack.json", "examples", "examples.png", "heads", "images", "manifest.csv"]
    crafted = evaluate_classification(config(settings, threats=["transfer"], out=tmp_path / "crafted"))
    attack = {"from": str(tmp_path / "set")}
    stored = evaluate_classification(config(settings, attack=attack, out=tmp_path / "stored"))
    assert stored["rows"] == crafted["rows"]
    other = {"type": "fit", "l2": [0.5]}  # through another head nobody knows whether the surrogate was fooled
    unknown = evaluate_classification(config(settings, attack=attack, head=other, out=tmp_path / "other"))
    assert {row["surrogate_success"] for row in unknown["rows"]} == {None}


def test_an_adversarial_set_on_features(settings: dict[str, Any], tmp_path: Path) -> None:
    make_adversarial_set(config(settings, tokens=None, head=None, out=tmp_path / "set"))
    attack = {"from": str(tmp_path / "set")}
    results = evaluate_classification(config(settings, attack=attack, out=tmp_path / "stored"))
    assert {row["attack"] for row in results["rows"]} == {"standard, eps 12/255, steps 3 on features"}
