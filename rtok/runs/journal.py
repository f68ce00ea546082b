"""JSON lines that survive a kill at any moment; they are read one by one, since there may be more than memory holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtok.errors import UserError
from rtok.files import atomic_path

_PIECE = 2**16  # bytes


class Journal:
    """JSON lines that a run appends to, and reads again when it is resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read the complete lines one after the other; an incomplete last line is removed from the file.

        Raises:
            UserError: a line is damaged, which a kill cannot cause.
        """
        return (row for _, row in self._lines())

    def rows(self) -> list[dict[str, Any]]:
        """Return all of them."""
        return list(self)

    def ordered(self, keys: Sequence[str]) -> Ordered:
        """Return the rows of images in the order of `keys`, whatever order they were written in."""
        place = {key: number for number, key in enumerate(keys)}
        found, begin = [], 0
        for line, row in self._lines():
            found.append((place[row["image"]], begin))
            begin += len(line)
        return Ordered(self, [begin for _, begin in sorted(found)])

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows in a single write, without buffering them."""
        with self.path.open("ab") as file:
            file.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows))

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only the rows for which `wanted` holds, in their order."""
        try:
            with atomic_path(self.path) as temporary, temporary.open("wb") as file:
                file.writelines(line for line, row in self._lines() if wanted(row))
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.path} is damaged: a row lacks {error}. Start again with --overwrite.") from error

    def parsed(self, line: bytes, number: int | None = None) -> dict[str, Any]:
        """Return the row that a line holds."""
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                return row
        where = "a line" if number is None else f"line {number}"
        raise UserError(f"{self.path}: {where} is damaged. Start the run again with --overwrite.")

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        if not self.path.exists():
            return
        self._mend()
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield line, self.parsed(line, number)

    def _mend(self) -> None:
        """Cut off what follows the last line break."""
        size = begin = self.path.stat().st_size
        piece = b""
        with self.path.open("rb") as file:
            while begin and b"\n" not in piece:
                begin = max(0, begin - _PIECE)
                file.seek(begin)
                piece = file.read(_PIECE)
        whole = begin + piece.rfind(b"\n") + 1
        if whole < size:
            os.truncate(self.path, whole)


@dataclass(frozen=True)
class Ordered:
    """The rows of a journal that begin at these places of its file; each reading goes through the file once."""

    journal: Journal
    begins: Sequence[int]

    def __len__(self) -> int:
        return len(self.begins)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.begins:
            with self.journal.path.open("rb") as file:
                for begin in self.begins:
                    file.seek(begin)
                    yield self.journal.parsed(file.readline())
