"""The entries of a protocol, as a leaderboard sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rtok.errors import UserError
from rtok.results.columns import main_column
from rtok.results.files import read_entry
from rtok.results.rows import Identity, Row
from rtok.runs.folder import ENTRIES

COMMAND = "eval-features"
MAIN = main_column(COMMAND)


@dataclass(frozen=True, eq=False)
class Entry:
    """What a run of a protocol says of one defense.

    Attributes:
        name: what tells it from the other entries of the table.
        content: the file, see `read_entry`.
    """

    path: Path
    name: str
    content: Mapping[str, Any]

    @cached_property
    def by_threat(self) -> dict[str, Row]:
        """The defense's scores, means over the protocol's attacks, by threat."""
        rows = [row for row in self.content["scores"] if row["victim"] == "robust"]
        return {Identity.of(row).threat_label: row for row in rows if row.get(MAIN.key) is not None}

    @property
    def worst(self) -> str:
        """The threat with the lowest score."""
        return min(self.by_threat, key=lambda threat: float(self.by_threat[threat][MAIN.key]))

    @property
    def score(self) -> float:
        """The score under that threat."""
        return float(self.by_threat[self.worst][MAIN.key])

    @property
    def mark(self) -> str:
        """Its name, with an asterisk if it deviates from the protocol."""
        return self.name + ("*" if self.content["deviations"] else "")


def read_entries(runs: Sequence[Path]) -> list[Entry]:
    """Read the entries in these run folders, best first; those that deviate from the protocol come last.

    Raises:
        UserError: a folder has no entry, a file is damaged, or the entries are not of one protocol and the same images.
    """
    files: list[Path] = []
    for run in runs:
        found = sorted(run.glob(ENTRIES))
        if not found:
            raise UserError(
                f"'{run}' holds no entry of a protocol: name the folders of finished runs with a protocol, such as "
                "`rtok eval-features --config protocol-v1 ...`."
            )
        files += found
    contents = {path: read_entry(path) for path in files}
    names = [content["name"] for content in contents.values()]
    entries = [
        Entry(path, name if names.count(name) == 1 else f"{path.parent.name}/{name}", content)
        for (path, content), name in zip(contents.items(), names, strict=True)
    ]
    first = entries[0]
    for entry in entries:
        if not entry.by_threat:
            raise UserError(f"'{entry.path}' has no score of its defense: run its command again.")
        _require_same(first, entry, lambda content: content["protocol"], "follows {}")
        _require_same(first, entry, lambda content: content["data"]["images"], "was measured on the images {}")
    return sorted(entries, key=lambda entry: (bool(entry.content["deviations"]), -entry.score))


def _require_same(first: Entry, entry: Entry, of: Callable[[Mapping[str, Any]], str], what: str) -> None:
    one, other = of(first.content), of(entry.content)
    if one != other:
        raise UserError(
            f"'{first.path}' {what.format(one)}, and '{entry.path}' {what.format(other)}: a leaderboard compares "
            "entries of one protocol on the same images. Make one for each."
        )
