"""An evaluation on images that the training of its defense saw says so, whatever the files are called."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from rtok.config.schema import Config
from rtok.defenses import load_defense
from rtok.evaluation import evaluate_features
from rtok.reporting.tables import notes
from rtok.results.columns import COLUMNS
from rtok.results.files import read_results
from rtok.training import train
from rtok.training.step import Trainer
from tests.training.runs import interrupted_at


def training(settings: dict[str, Any], out: Path) -> Config:
    own = {key: settings[key] for key in ("model", "data", "attack")}
    steps = {"steps": 2, "batch_size": 2, "checkpoint_every": 1}
    return Config.model_validate({**own, "defense": {"count": 2}, "train": steps, "out": str(out)})


def test_images_of_the_training_are_counted_and_named(
    settings: dict[str, Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training(settings, tmp_path / "training")
    met = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, n, batch: (met.extend(batch.keys), step(self, n, batch))[1])
    train(config)
    assert len(set(met)) == 4
    others = tmp_path / "others"
    others.mkdir()
    for number, key in enumerate(sorted(path.name for path in pictures.iterdir())):
        shutil.copy(pictures / key, others / f"{number}.png")
    wanted = {f"{sorted(path.name for path in pictures.iterdir()).index(key)}.png" for key in met}
    data = {**settings["data"], "root": str(others)}
    measured = {"defense": str(config.out), "threats": ["transfer"], "control_draws": 1, "out": str(tmp_path / "run")}
    results = evaluate_features(Config.model_validate({**settings, "data": data, **measured}))
    assert {row["victim"]: row["seen_in_training"] for row in results["rows"]} == {
        "plain": None,
        "random": None,
        "robust": 4,
    }
    with (tmp_path / "run" / "per_image.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file) if row["seen_in_training"] == "True"} == wanted
    read = read_results(tmp_path / "run" / "results.json")["rows"]
    assert "NOT HELD OUT: the training of defense training saw 4 of these images." in notes(
        read, COLUMNS["eval-features"]
    )


def test_what_was_seen_survives_a_resumption(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training(settings, tmp_path / "stopped")
    with interrupted_at(monkeypatch, step=2):
        train(config)
    stopped = train(config, resume=True)
    whole = train(config.model_copy(update={"out": tmp_path / "whole"}))
    assert load_defense(stopped.files[0]).seen == load_defense(whole.files[0]).seen
    assert len(load_defense(whole.files[0]).seen) == 4
