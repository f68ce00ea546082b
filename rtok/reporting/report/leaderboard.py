"""A leaderboard: the entries of one protocol, sorted by the worst threat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rtok.errors import UserError
from rtok.reporting.report.blocks import Block, Heading, Listing, Paragraph, Table
from rtok.reporting.report.runs import distinct
from rtok.reporting.tables import ABSENT, cell
from rtok.results.columns import COLUMNS, main_column
from rtok.results.files import read_entry
from rtok.results.rows import Identity, Row
from rtok.results.words import capital, of_255, with_interval
from rtok.runs.folder import ENTRIES

_COMMAND = "eval-features"
_BY_KEY = {column.key: column for column in COLUMNS[_COMMAND]}
MAIN = main_column(_COMMAND)


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


def leaderboard(entries: Sequence[Entry]) -> list[Block]:
    """Return the page: scores, gains over the control, the worst threat by radius, retrieval, and what was measured."""
    parts = (_start(entries), _scores(entries), _gains(entries), _radii(entries), _retrieval(entries), _about(entries))
    return [block for part in parts for block in part]


def _require_same(first: Entry, entry: Entry, of: Callable[[Mapping[str, Any]], str], what: str) -> None:
    one, other = of(first.content), of(entry.content)
    if one != other:
        raise UserError(
            f"'{first.path}' {what.format(one)}, and '{entry.path}' {what.format(other)}: a leaderboard compares "
            "entries of one protocol on the same images. Make one for each."
        )


def _start(entries: Sequence[Entry]) -> Iterator[Block]:
    first = entries[0].content
    data = first["data"]
    yield Heading(1, f"Leaderboard: {first['protocol']}")
    yield Paragraph(f"Images: {data['name']}, {data['split']}; {data['images']}.")
    radii = distinct(Identity.of(row).radius for row in first["rows"])
    yield Paragraph(f"{capital(MAIN.title)}: {MAIN.meaning}; a mean over the attacks, {'; '.join(radii)}.")


def _scores(entries: Sequence[Entry]) -> Iterator[Block]:
    yield Heading(2, f"{capital(MAIN.title)} by threat")
    plain = {e.content["model"]["name"]: cell(row, MAIN) for e in entries for row in _of(e, "scores", "plain")[:1]}
    told = "; ".join(f"{model} without a defense {text}" for model, text in plain.items())
    yield Paragraph(
        "Sorted by the worst threat. Intervals are 95 %, over images. "
        f"Under the white-box attack, which for a public model is `transfer`: {told}."
    )
    threats = _threats(entries)
    rows = [
        [e.mark, f"{e.content['defense']['parameters']:,}", cell(e.by_threat[e.worst], _BY_KEY["fidelity"])]
        + [cell(e.by_threat[threat], MAIN) if threat in e.by_threat else ABSENT for threat in threats]
        for e in entries
    ]
    yield _table(["defense", "parameters", "fidelity", *threats], rows)
    changed: dict[str, list[str]] = {}
    for entry in entries:
        told = ", ".join(f"{key} = {value}" for key, value in entry.content["deviations"].items())
        changed.setdefault(told, []).append(entry.name)
    for told, names in changed.items():
        if told:
            yield Paragraph(f"* Deviates from the protocol ({', '.join(names)}): {told}.", alarm=True)


def _gains(entries: Sequence[Entry]) -> Iterator[Block]:
    """How far each defense is above its untrained twin, image by image."""
    gained: dict[str, dict[str, str]] = {}
    for entry in entries:
        for row in entry.content["differences"]:
            if row["baseline_victim"] == "random" and row.get(MAIN.key) is not None:
                bounds = (row.get("ci95") or {}).get(MAIN.key)
                text = with_interval(row[MAIN.key], bounds, sign="+")
                gained.setdefault(entry.mark, {})[Identity.of(row).threat_label] = text
    if gained:
        yield Heading(2, "What training gained")
        yield Paragraph("Each defense minus the control, the same defense untrained, on the same images.")
        threats = _threats(entries)
        rows = [[name, *(by_threat.get(threat, ABSENT) for threat in threats)] for name, by_threat in gained.items()]
        yield _table(["defense", *threats], rows)


def _radii(entries: Sequence[Entry]) -> Iterator[Block]:
    """The main number at each radius, under each defense's worst threat."""
    yield Heading(2, "Under the worst threat, by radius")
    yield Paragraph(f"{capital(MAIN.title)}. Radii are in pixels; those in normalized space are means over channels.")
    found: list[tuple[list[str], dict[float, str]]] = []
    for entry in entries:
        rows = [row for row in _of(entry, "rows", "robust") if Identity.of(row).threat_label == entry.worst]
        radii = {float(row["eps_pixel"]): cell(row, MAIN) for row in rows if row.get("eps_pixel")}
        found.append(([entry.mark, entry.worst], radii))
    # Models whose statistics differ have slightly different radii where those are in normalized space.
    columns = distinct(map(of_255, sorted({radius for _, cells in found for radius in cells})))
    lines = [
        [*about, *({of_255(radius): text for radius, text in cells.items()}.get(c, ABSENT) for c in columns)]
        for about, cells in found
    ]
    yield _table(["defense", "threat", *columns], lines, texts=2)


def _retrieval(entries: Sequence[Entry]) -> Iterator[Block]:
    column, clean = _BY_KEY["retrieval"], _BY_KEY["retrieval_clean"]
    threats = _threats(entries)
    if all(row.get(column.key) is None for entry in entries for row in entry.by_threat.values()):
        return
    yield Heading(2, capital(column.title))
    chance = {f"{row[column.chance]:.3f}" for e in entries for row in e.by_threat.values() if row.get(column.chance)}
    yield Paragraph(f"{capital(column.meaning)}; by chance {', '.join(sorted(chance))}, plain on clean images 1.")
    rows = [
        [entry.mark, cell(entry.by_threat[entry.worst], clean)]
        + [cell(entry.by_threat[threat], column) if threat in entry.by_threat else ABSENT for threat in threats]
        for entry in entries
    ]
    yield _table(["defense", "clean", *threats], rows)


def _about(entries: Sequence[Entry]) -> Iterator[Block]:
    yield Heading(2, "What was measured")
    rows = []
    for entry in entries:
        content = entry.content
        model, defense, versions = content["model"], content["defense"], content["versions"]
        used = ", ".join(f"{name} {versions[name]}" for name in ("rtok", "torch") if name in versions)
        about = [defense["kind"], str(defense["sha256"] or ABSENT)[:16], f"{model['name']}, {model['weights']}"]
        rows.append([entry.mark, *about, content["sanity"] or ABSENT, used, str(entry.path.parent)])
    head = ("defense", "kind", "SHA-256 begins", "backbone, fingerprint", "sanity", "versions", "run")
    yield Table(head, rows)
    told = "\n".join(f"{key}: {value}" for key, value in entries[0].content["fixed"].items())
    yield Listing(f"What {entries[0].content['protocol']} fixes", told)


def _threats(entries: Sequence[Entry]) -> list[str]:
    return distinct(threat for entry in entries for threat in entry.by_threat)


def _of(entry: Entry, part: str, victim: str) -> list[Row]:
    return [row for row in entry.content[part] if row["victim"] == victim]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Table:
    """A table whose first columns are text, and the rest numbers."""
    return Table(head, rows, frozenset(range(texts, len(head))))
