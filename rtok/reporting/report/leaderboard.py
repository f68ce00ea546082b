"""A leaderboard: the entries of one protocol, sorted by the worst threat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rtok.config.registry import THREATS
from rtok.config.types import with_fractions
from rtok.reporting.report.blocks import Block, Heading, Listing, Paragraph, Table
from rtok.reporting.report.entries import COMMAND, MAIN, Entry
from rtok.reporting.report.runs import distinct
from rtok.reporting.tables import ABSENT, cell
from rtok.results.columns import COLUMNS
from rtok.results.rows import SEEN, Identity, Row, interval_of
from rtok.results.words import capital, counted, of_255, with_interval

_BY_KEY = {column.key: column for column in COLUMNS[COMMAND]}
_BASELINES = (
    (
        "random",
        "What training gained",
        "Each defense minus the control, the same defense untrained, on the same images and under the same threat. A "
        "defense that is the plain model until it is trained has no control.",
    ),
    (
        "plain",
        "What a defense is worth",
        "Each defense minus the plain model under its white-box attack, `transfer`, on the same images.",
    ),
)


def leaderboard(entries: Sequence[Entry]) -> list[Block]:
    """Return the page: scores, gains over the control, the worst threat by radius, retrieval, and what was measured."""
    parts = (_start(entries), _scores(entries), _gains(entries), _radii(entries), _retrieval(entries), _about(entries))
    return [block for part in parts for block in part]


def _start(entries: Sequence[Entry]) -> Iterator[Block]:
    first = entries[0].content
    data = first["data"]
    yield Heading(1, f"Leaderboard: {first['protocol']}")
    yield Paragraph(f"Images: {data['name']}, split {data['split']}; {data['images']}.")
    radii = distinct(Identity.of(row).radius for row in first["rows"])
    yield Paragraph(f"{capital(MAIN.title)}: {MAIN.meaning}; a mean over the attacks, {'; '.join(radii)}.")


def _scores(entries: Sequence[Entry]) -> Iterator[Block]:
    yield Heading(2, f"{capital(MAIN.title)} by threat")
    plain: dict[str, str] = {}
    for entry in entries:
        for row in _of(entry, "scores", "plain")[:1]:
            plain.setdefault(entry.content["model"]["name"], cell(row, MAIN))  # of those that follow the protocol first
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
    if any(ABSENT in row for row in rows):
        why = "the defense is the plain model until it is trained"
        yield Paragraph(f"{ABSENT}: not measured, or no threat of its own, since {why}.")
    yield from _alarms(entries)


def _alarms(entries: Sequence[Entry]) -> Iterator[Block]:
    """What makes a number of the table one not to rely on."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        for said in _said_of(entry):
            found.setdefault(said, []).append(entry.name)
    for (before, after), names in found.items():
        yield Paragraph(f"{before} ({', '.join(names)}){after}", alarm=True)


def _said_of(entry: Entry) -> Iterator[tuple[str, str]]:
    """What there is to say of an entry, before and after its name."""
    content = entry.content
    if content["deviations"]:
        changed = ", ".join(f"{key} = {_setting(key, value)}" for key, value in content["deviations"].items())
        yield "* Deviates from the protocol", f": {changed}."
    if content["sanity"] is None:
        yield "The attacks were not checked", "."
    elif content["sanity"] != "sound":
        yield f"The checks call the attacks {content['sanity']}", ": the numbers may be too good."
    seen = max((round(row.get(SEEN) or 0) for row in entry.by_threat.values()), default=0)
    if seen:
        yield f"NOT HELD OUT: {counted(seen, 'image')} of these were in the training", "."


def _gains(entries: Sequence[Entry]) -> Iterator[Block]:
    """How far each defense is above its untrained twin, and above the plain model, image by image."""
    for baseline, title, about in _BASELINES:
        gained = {entry.mark: _above(entry, baseline) for entry in entries}
        threats = [threat for threat in _threats(entries) if any(threat in found for found in gained.values())]
        if threats:
            yield Heading(2, title)
            yield Paragraph(about)
            rows = [[name, *(found.get(threat, ABSENT) for threat in threats)] for name, found in gained.items()]
            yield _table(["defense", *threats], rows)


def _above(entry: Entry, baseline: str) -> dict[str, str]:
    """By threat the difference of the main number to a baseline."""
    rows = [row for row in entry.content["differences"] if row["baseline_victim"] == baseline]
    return {
        Identity.of(row).threat_label: with_interval(row[MAIN.key], interval_of(row, MAIN.key), sign="+")
        for row in rows
        if row.get(MAIN.key) is not None
    }


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
    content = entries[0].content
    told = "\n".join(f"{key}: {_setting(key, value)}" for key, value in content["fixed"].items())
    yield Listing(f"What {content['protocol']} fixes", told.replace("}, {method", "},\n  {method"))  # an attack a line


def _threats(entries: Sequence[Entry]) -> list[str]:
    """The threats of all entries with their budgets, in the order in which rtok lists them."""
    found = {threat: row["threat"] for entry in entries for threat, row in entry.by_threat.items()}
    order = list(THREATS)
    return sorted(found, key=lambda threat: order.index(found[threat]) if found[threat] in order else len(order))


def _setting(key: str, value: Any) -> str:
    """The value of a dotted key on one line, radii in 255ths."""
    leaf = key.rpartition(".")[2]
    return _in_yaml(with_fractions({leaf: value})[leaf])


def _in_yaml(value: Any) -> str:
    """A value in YAML, without keys that are null."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_in_yaml(one)}' for key, one in value.items() if one is not None)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_in_yaml, value))}]"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _of(entry: Entry, part: str, victim: str) -> list[Row]:
    return [row for row in entry.content[part] if row["victim"] == victim]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Table:
    """A table whose first columns are text, and the rest numbers."""
    return Table(head, rows, frozenset(range(texts, len(head))))
