"""Measure a GPU within a budget of time: every model, batch size, precision and mode against the naive path.

Cells are measured in processes of their own, a process for each model, so that neither a crash nor a hang takes more
than a cell. `results.json` and `table.md` are written after each process; what there was no time for says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import BATCHES, MODELS, MODES, NAMES, NO_TIME, PRECISIONS, USUAL, Cell, plan
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.table import markdown
from rtok.files import write_atomic, write_json
from rtok.runs.record import versions

# From cells, options, the deadline and the file of rows to the exit code; None where the deadline ended it.
Launch = Callable[[list[Cell], argparse.Namespace, float, Rows], "int | None"]


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of results.json and table.md")
    parser.add_argument("--budget", type=float, default=460, help="seconds that all of it may take (default: 460)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *NAMES], default=list(MODELS))
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(USUAL))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=5, help="PGD steps in a training step")
    parser.add_argument("--repeats", type=int, default=5, help="turns that count, of which the median is told")
    parser.add_argument("--no-naive", dest="naive", action="store_false")
    parser.add_argument(
        "--no-paper", dest="paper", action="store_false", help="leave out the paper's 50 training steps"
    )
    parser.add_argument(
        "--short", action="store_true", help="two training steps in place of the paper's 50, for trials"
    )
    return parser.parse_args(given)


def in_a_process(cells: list[Cell], options: argparse.Namespace, deadline: float, rows: Rows) -> int | None:
    """Run the worker; end it at the deadline."""
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    task = {"cells": [c.as_dict() for c in cells], "options": settings, "deadline": deadline, "rows": str(rows.file)}
    environment = {**os.environ, **({"ACCELERATE_USE_CPU": "true"} if options.device == "cpu" else {})}
    command = [sys.executable, "-m", "benchmarks.gpu.worker", json.dumps(task)]
    try:
        return subprocess.run(command, env=environment, timeout=max(0.1, deadline - time.time())).returncode
    except subprocess.TimeoutExpired:
        return None


def measured(cells: list[Cell], options: argparse.Namespace, deadline: float, rows: Rows, launch: Launch) -> None:
    """Have a row for each cell, whatever happens to the processes that measure them."""
    left = list(cells)
    while left:
        code = launch(left, options, deadline, rows) if time.time() < deadline else None
        before, begun = left, rows.begun()
        left = [cell for cell in left if cell not in rows.found()]
        if code is None:
            for cell in left:
                rows.add(cell, skipped="it took too long" if cell in begun else NO_TIME)
            return
        if left and (left[0] in begun or left == before):  # it died of this cell, or before it
            rows.add(left.pop(0), error=f"the process ended with code {code}")


def main(given: list[str] | None = None, launch: Launch = in_a_process) -> list[dict[str, Any]]:
    options = arguments(given)
    deadline = time.time() + options.budget
    options.out.mkdir(parents=True, exist_ok=True)
    rows = Rows(options.out / "rows.jsonl")
    rows.file.unlink(missing_ok=True)
    for cells in plan(options):
        measured(cells, options, deadline, rows, launch)
        found = list(rows.found().values())
        device = next((row["device"] for row in found if "device" in row), None)
        settings = {key: value for key, value in vars(options).items() if key != "out"}
        about = {"date": date.today().isoformat(), "device": device, "versions": versions(), "settings": settings}
        write_json(options.out / "results.json", {**about, "rows": found})
        write_atomic(options.out / "table.md", markdown(found, about))
    print(f"{markdown(found, about)}\nwritten to {options.out}")
    return found


if __name__ == "__main__":
    main()
