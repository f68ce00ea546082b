"""eval-features: its files, and runs that can be cut anywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rtok.config.schema import Config
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from rtok.evaluation.loop import Evaluator
from tests.evaluation.tasks.features.helpers import FILES, config
from tests.evaluation.tasks.results import assert_same_rows, per_image, rows_of


def test_rows_and_files(settings: dict[str, Any], token_file: Path) -> None:
    cfg = config(settings, token_file)
    results = evaluate_features(cfg)
    assert sorted(path.name for path in cfg.out.iterdir()) == FILES
    assert json.loads((cfg.out / "results.json").read_text()) == results
    assert [(row["threat"], row["victim"]) for row in results["rows"]] == [
        ("transfer", "plain"),
        ("transfer", "random"),
        ("transfer", "robust"),
        ("informed", "random"),
        ("informed", "robust"),
        ("adaptive", "random"),
        ("adaptive", "robust"),
    ]
    robust = rows_of(results, victim="robust")[0]
    about = {"attack": "paper, steps 3", "norm": "linf", "units": "normalized", "steps": 3, "restarts": 1, "n": 3}
    assert {key: robust[key] for key in about} == about and robust["defense"] == str(token_file)
    assert robust["kind"] == "tokens"
    assert robust["eps"] == pytest.approx(8 / 255)
    assert {row["draws"] for row in rows_of(results, victim="random")} == {2}
    # 7 images x (plain, under three threats two draws and robust)
    assert len(per_image(cfg.out)) == 7 * (1 + 3 * 3)


def test_rows_do_not_depend_on_the_batch(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    for size in (1, 7):
        evaluate_features(config(settings, token_file, batch_size=size, out=tmp_path / str(size)))
    assert_same_rows(tmp_path / "1", tmp_path / "7")


def test_an_interrupted_evaluation_resumes_to_the_same_files(
    settings: dict[str, Any], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_features(config(settings, token_file, out=tmp_path / "whole", batch_size=2))
    cut = config(settings, token_file, out=tmp_path / "cut", batch_size=2)
    evaluate = Evaluator.evaluate
    calls = {"n": 0}

    def interrupted(self: Evaluator, batch: Any) -> Any:
        calls["n"] += 1
        if calls["n"] == 3:
            raise KeyboardInterrupt
        return evaluate(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "evaluate", interrupted)
        evaluate_features(cut)
    with (cut.out / "state" / "images.jsonl").open("a") as file:
        file.write('{"image": "torn')  # a line that a kill cut off
    calls["n"] = 10
    evaluate_features(cut, resume=True)
    for name in ("per_image.csv", "results.json"):
        assert (cut.out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in cut.out.iterdir()) == FILES


def test_two_processes_give_the_rows_of_one(
    settings: dict[str, Any],
    token_file: Path,
    tmp_path: Path,
    run_rtok: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    settings |= {"tokens": str(token_file), "batch_size": 4, "control_draws": 2}
    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(settings))
    evaluate_features(Config.model_validate({**settings, "out": tmp_path / "one"}))
    done = run_rtok("eval-features", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES
    assert_same_rows(tmp_path / "one", tmp_path / "two")


def test_skipped_files_are_counted(settings: dict[str, Any], token_file: Path, tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    data = {**settings["data"], "root": str(folder)}
    with pytest.raises(UserError, match=r"broken\.png"):
        evaluate_features(config(settings, token_file, threats=["transfer"], data=data, out=tmp_path / "stop"))
    data["on_error"] = "skip"
    results = evaluate_features(config(settings, token_file, threats=["transfer"], data=data))
    assert results["images"] == 7 and results["skipped"] == 1
    record = json.loads((Path(settings["out"]) / "run.json").read_text())
    assert record["skipped"] == ["broken.png"]
