"""Damaged files of a run are named, and lead nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from rtok.errors import UserError
from rtok.reporting.report import write_report
from tests.reporting.report.folders import Page, Rows, evaluation, examples


def _no_json(folder: Path) -> None:
    (folder / "results.json").write_text("{")


def _text_for_a_number(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["fidelity"] = "<b>"
    (folder / "results.json").write_text(json.dumps(results))


def _no_interval(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["ci95"] = {"cosine_to_plain": [1]}
    (folder / "results.json").write_text(json.dumps(results))


def _other_command(folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps({"command": "eval-sound", "rows": []}))


def _no_step(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("[1]\n")


def _not_utf8(folder: Path) -> None:
    (folder / "config.yaml").write_bytes(b"\xff")


def _list_of_settings(folder: Path) -> None:
    (folder / "config.yaml").write_text("- 1\n")


def _no_checks(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "sanity": {"checks": [1]}}))


def _half_a_difference(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    difference = {"threat": "transfer", "attack": "paper", "baseline_victim": "plain"}
    (folder / "results.json").write_text(json.dumps({**results, "differences": [difference]}))


def _list_for_a_name(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["norm"] = ["linf"]
    (folder / "results.json").write_text(json.dumps(results))


@pytest.mark.parametrize(
    "damage",
    [
        _no_json,
        _text_for_a_number,
        _no_interval,
        _other_command,
        _no_step,
        _not_utf8,
        _list_of_settings,
        _no_checks,
        _half_a_difference,
        _list_for_a_name,
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_written(
    tmp_path: Path, rows: Rows, damage: Callable[[Path], None]
) -> None:
    run = evaluation(tmp_path / "a", rows)
    damage(run)
    with pytest.raises(UserError, match=r"a/(results\.json|metrics\.jsonl|config\.yaml)' (is damaged|cannot be read)"):
        write_report([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_index_of_examples_leads_to_nothing_outside_of_its_folder(tmp_path: Path, rows: Rows) -> None:
    run = evaluation(tmp_path / "a", rows)
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    Image.new("RGB", (2, 2)).save(run / "features.png")
    for file in ("../../secret.png", "1-1.png/../../../secret.png", str(tmp_path / "secret.png"), "1-1.png\n"):
        examples(run, file=file)
        with pytest.raises(UserError, match=r"examples\.json' is damaged"):
            write_report([run], tmp_path / "out")
    examples(run, file="1-9.png")  # which is not there: the figure is shown instead
    page = Page(write_report([run], tmp_path / "out").html.read_text())
    assert not [attrs for _, attrs in page.elements if attrs.get("class") == "examples"]
    assert [tag for tag, _ in page.elements].count("img") == 1
