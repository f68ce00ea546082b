"""A column from outside is measured, averaged and shown like one of the package."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.config.schema import Config
from rtok.evaluation import evaluate_features
from rtok.evaluation.task import View
from rtok.reporting.tables import print_results
from rtok.results.columns import COLUMNS, Column, register_column
from rtok.statistics import mean_interval


def test_a_column_from_outside_is_in_every_file(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COLUMNS, "eval-features", COLUMNS["eval-features"])  # forgotten after the test
    seen: list[Tensor] = []

    def ratio(view: View) -> Tensor:
        found = view.adversarial.flatten(1).norm(dim=1) / view.clean.flatten(1).norm(dim=1)
        seen.append(found)
        return found

    register_column("eval-features", Column("norm_ratio", "norm\nratio", interval=True), ratio)
    config = Config.model_validate({**small, "threats": ["transfer"], "batch_size": 7, "control_draws": 1})
    results = evaluate_features(config)

    plain = [row for row in results["rows"] if row["victim"] == "plain"]
    with (config.out / "per_image.csv").open() as file:
        images = [row for row in csv.DictReader(file) if row["victim"] == "plain"]
    values = [float(row["norm_ratio"]) for row in images]
    torch.testing.assert_close(torch.tensor(values), seen[0])
    assert plain[0]["norm_ratio"] == pytest.approx(sum(values) / 7)
    interval = mean_interval(values, [row["group"] for row in images])
    assert plain[0]["ci95"]["norm_ratio"] == pytest.approx(interval)
    assert json.loads((config.out / "results.json").read_text())["rows"] == results["rows"]
    print_results(results)
    assert "norm" in capsys.readouterr().out
