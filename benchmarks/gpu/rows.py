"""The file through which processes hand rows to each other: one line as a cell begins, one for what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import Cell
from rtok.runs.journal import Journal


class Rows:
    """Rows as JSON, one a line; `file` grows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._journal = Journal(file)

    def begin(self, cell: Cell) -> None:
        """Note that a cell is about to be measured."""
        self._journal.append([{**cell.as_dict(), "begun": True}])

    def add(self, cell: Cell, **found: Any) -> None:
        """Note what came of a cell."""
        self._journal.append([{**cell.as_dict(), **found}])

    def found(self) -> dict[Cell, dict[str, Any]]:
        """What came of each cell."""
        return {Cell.of(row): row for row in self._journal if "begun" not in row}

    def begun(self) -> set[Cell]:
        """The cells that were about to be measured, or have been."""
        return {Cell.of(row) for row in self._journal if "begun" in row}
