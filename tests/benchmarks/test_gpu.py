"""The benchmark of GPUs runs on a CPU, in its own processes, and survives what goes wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import worker
from benchmarks.gpu.__main__ import arguments, in_a_process, main
from benchmarks.gpu.plan import MODELS, NO_TIME, Cell, plan
from benchmarks.gpu.rows import Rows

SMALL = ["--device", "cpu", "--models", "tiny", "--image-size", "32", "--batch", "2", "--steps", "1", "--repeats", "1"]
FEW = [*SMALL, "--short", "--modes", "eager", "graphs", "--precisions", "bf16", "fp32"]


def here(cells: list[Cell], options: argparse.Namespace, deadline: float, rows: Rows) -> int:
    return worker.work(cells, options, deadline, rows)


def test_all_of_it_runs_in_a_process(tmp_path: Path) -> None:
    rows = main([*FEW, "--out", str(tmp_path), "--budget", "200"], in_a_process)
    parts = [(row["part"], row["precision"], row["mode"]) for row in rows]
    assert parts == [
        ("naive", "fp32", "eager"),
        *(("step", precision, mode) for precision in ("bf16", "fp32") for mode in ("eager", "graphs")),
        *(("paper", "bf16", mode) for mode in ("eager", "graphs")),
    ]
    assert all(row["seconds"] and row["device"]["type"] == "cpu" for row in rows), rows
    steps = [row for row in rows if row["part"] == "step"]
    assert all(0 < row["share_of_limit"] < 2 for row in steps)
    assert steps[0]["undefended"] == steps[1]["undefended"] < 1  # eager, and graphs, which a CPU has not
    assert [row["training_steps"] for row in rows if row["part"] == "paper"] == [2, 2]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    table = (tmp_path / "table.md").read_text()
    assert "## tiny, batch 2" in table and table.count("\n| bf16") == 2 and "2 training steps, bf16, graphs: " in table


def test_a_cell_that_fails_or_kills_its_process_loses_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[int] = []

    def measure(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
        if cell.mode == "compile":
            raise ValueError("no such\nthing")
        if cell.precision == "tf32":
            raise torch.OutOfMemoryError("too large")
        if cell.part == "paper":
            raise SystemExit(11)  # as a crash
        if cell.mode == "graphs" and cell.precision == "fp32":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return {"seconds": [1.0], "setup_seconds": 0.0, "peak_bytes": None}

    def launch(cells: list[Cell], options: argparse.Namespace, deadline: float, rows: Rows) -> int:
        launches.append(len(cells))
        try:
            return here(cells, options, deadline, rows)
        except SystemExit as crash:
            return int(str(crash.code))

    monkeypatch.setattr(worker, "measure", measure)
    rows = main([*SMALL, "--out", str(tmp_path)], launch)
    found = {(r["part"], r["precision"], r["mode"]): r.get("error", r.get("skipped", "")) for r in rows}
    assert len(found) == 1 + 9 + 2
    assert found["step", "bf16", "compile"] == "ValueError: no such"
    assert found["step", "tf32", "eager"] == "out of memory"
    assert found["step", "fp32", "graphs"].startswith("RuntimeError: CUDA error")
    assert found["paper", "bf16", "eager"] == found["paper", "bf16", "graphs"] == "the process ended with code 11"
    assert not any(found[key] for key in found if key[1] == "bf16" and key[0] == "step" and key[2] != "compile")
    # anew after the device's error, and after each crash
    assert launches == [9, 2, 1, 1, 2]


@pytest.mark.parametrize(("budget", "why"), [("0", NO_TIME), ("3", NO_TIME)])
def test_what_there_is_no_time_for_says_so(budget: str, why: str, tmp_path: Path) -> None:
    rows = main([*SMALL, "--out", str(tmp_path), "--budget", budget], here)
    assert len(rows) == 12 and {row["skipped"] for row in rows} == {why}
    assert (tmp_path / "table.md").read_text().count(why) == 12


def test_a_hang_is_ended_at_the_deadline(tmp_path: Path) -> None:
    def launch(cells: list[Cell], options: argparse.Namespace, deadline: float, rows: Rows) -> None:
        rows.begin(cells[0])

    rows = main([*FEW, "--out", str(tmp_path)], launch)
    assert [row["skipped"] for row in rows] == ["it took too long", *[NO_TIME] * 6]


def test_what_matters_most_comes_first() -> None:
    groups = plan(arguments(["--out", "x"]))
    cells = [cell for group in groups for cell in group]
    assert len(cells) == len(set(cells)) == 4 * 2 * (3 * 3 + 1) + 2
    assert all(len({cell.model for cell in group}) == 1 for group in groups)  # a process loads one model
    assert [group[0].model for group in groups[:3]] == list(MODELS[:3])
    first = {(cell.model, cell.mode): at for at, cell in reversed(list(enumerate(cells)))}
    assert first[MODELS[2], "graphs"] < first[MODELS[0], "compile"] < first[MODELS[3], "eager"]
