"""Measures the cells of one process, a row for each as soon as it is there: `python -m benchmarks.gpu.worker`."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.cells import measure
from benchmarks.gpu.plan import NO_TIME, Cell
from benchmarks.gpu.rows import Rows
from rtok.compute import Compute

LOST = 3  # exit code: the device answers nothing more in this process
SHORTEST = 5.0  # seconds that a cell needs at least; what takes longer is ended by the process that started this one


def work(cells: list[Cell], options: argparse.Namespace, deadline: float, rows: Rows) -> int:
    """Append a row for each cell; a cell that fails says why in its row, and the next one is measured all the same.

    Args:
        deadline: of `time.time()`.

    Returns:
        The exit code of the process.
    """
    for cell in cells:
        rows.begin(cell)
        if deadline - time.time() < SHORTEST:
            found: dict[str, Any] = {"skipped": NO_TIME}
        else:
            found = _measured(cell, options)
        about = Compute.start().describe()
        rows.add(cell, device={key: about[key] for key in ("type", "name", "threads")}, **found)
        if "CUDA error" in str(found.get("error")):
            return LOST
    return 0


def _measured(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    try:
        return measure(cell, options)
    except torch.OutOfMemoryError:
        return {"skipped": "out of memory"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    finally:
        gc.collect()
        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def main() -> None:
    task = json.loads(sys.argv[1])
    cells, options = [Cell.of(cell) for cell in task["cells"]], argparse.Namespace(**task["options"])
    sys.exit(work(cells, options, task["deadline"], Rows(Path(task["rows"]))))


if __name__ == "__main__":
    main()
