"""The file through which processes hand rows to each other: one line as a cell begins, one for what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import Cell


class Rows:
    """Rows as JSON, one a line; `file` grows."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def begin(self, cell: Cell) -> None:
        """Note that a cell is about to be measured."""
        self._put({**cell.as_dict(), "begun": True})

    def add(self, cell: Cell, **found: Any) -> None:
        """Note what came of a cell."""
        self._put({**cell.as_dict(), **found})

    def found(self) -> dict[Cell, dict[str, Any]]:
        """What came of each cell."""
        return {Cell.of(row): row for row in self._lines() if "begun" not in row}

    def begun(self) -> set[Cell]:
        """The cells that were about to be measured, or have been."""
        return {Cell.of(row) for row in self._lines() if "begun" in row}

    def _put(self, row: dict[str, Any]) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []
