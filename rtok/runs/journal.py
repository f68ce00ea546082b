"""JSON lines that survive a kill at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rtok.errors import UserError
from rtok.files import write_atomic


class Journal:
    """JSON lines that a run appends to, and reads again when it is resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete lines; an incomplete last line is removed from the file.

        Raises:
            UserError: a line is damaged, which a kill cannot cause.
        """
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            write_atomic(self.path, whole)
        return [self._parse(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows in a single write, without buffering them."""
        with self.path.open("ab") as file:
            file.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows))

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only the rows for which `wanted` holds, in their order."""
        try:
            kept = [row for row in self.rows() if wanted(row)]
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.path} is damaged: a row lacks {error}. Start again with --overwrite.") from error
        write_atomic(self.path, b"".join(json.dumps(row).encode() + b"\n" for row in kept))

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                return row
        raise UserError(f"{self.path}: line {number} is damaged. Start the run again with --overwrite.")
