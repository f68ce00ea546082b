"""What the charts of a page show, from rows of results and the journal of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rtok.reporting.report.blocks import Bar, Bars, Curves, Point, Series
from rtok.reporting.tables import cell
from rtok.results.columns import Column
from rtok.results.rows import Identity, Naming, Row, by_attack, interval_of
from rtok.results.words import counted, detailed

if TYPE_CHECKING:
    from rtok.reporting.figures.tradeoff import Places

VICTIMS = ("plain", "random", "robust")
# What training shows of each step, as in `curves.png`: the term, its name, its color.
TERMS = (
    ("invariance", "clean image, with the defense", "clean"),
    ("adversarial", "adversarial image, with the defense", "robust"),
    ("undefended", "adversarial image, plain", "plain"),
)
# Points of a line: more cannot be told apart on a screen, and every one makes the file larger.
_POINTS = 200


def summary_bars(rows: Sequence[Row], column: Column) -> Bars | None:
    """A column with its intervals: a panel per attack, a group per threat, a bar per victim."""
    known = [row for row in rows if row.get(column.key) is not None]
    naming = Naming.of(known)
    panels = []
    for title, group in by_attack(known):
        threats: dict[str, list[Bar]] = {}
        for row in group:
            who = Identity.of(row)
            name, shown = who.victim_label(naming), cell(row, column)
            text = f"{name} under {who.threat_label}: {column.title} {shown}"
            value, low, high = _values(row, column.key)
            threats.setdefault(who.threat_label, []).append(Bar(name, _look(row), value, low, high, shown, text))
        panels.append((title, list(threats.items())))
    return Bars(panels) if panels else None


def robustness_curves(rows: Sequence[Row], column: Column) -> Curves | None:
    """A column against the Linf radius in pixels, from the clean image on: a panel per threat, a line per victim."""
    known = [row for row in rows if row.get(column.key) is not None]
    naming = Naming.of(known)
    threats: dict[str, dict[str, list[Row]]] = {}
    for row in known:
        who = Identity.of(row)
        label = detailed(who.victim, [*who.details(naming), *who.budget])
        threats.setdefault(who.threat, {}).setdefault(label, []).append(row)
    panels = [
        (threat, [Series(label, look, list(_by_radius(lines[label], label, column))) for label, look in _looks(lines)])
        for threat, lines in threats.items()
    ]
    return Curves(panels, "Linf radius, of 255 (no rounding)", column.title) if panels else None


def _by_radius(rows: Sequence[Row], label: str, column: Column) -> Iterator[Point]:
    ordered = sorted(rows, key=lambda row: float(row["eps"] or 0))
    if ordered[0].get(column.clean) is not None:
        value, low, high = _values(ordered[0], column.clean)
        yield Point(0.0, value, low, high, f"{label}, clean: {value:.{column.digits}f}")
    for row in ordered:
        value, low, high = _values(row, column.key)
        radius = float(row["eps"] or 0) * 255
        yield Point(radius, value, low, high, f"{label} at {radius:g}/255: {cell(row, column)}")


def tradeoff_curves(rows: Sequence[Row], settings: Mapping[str, Mapping[str, Any]], column: Column) -> Curves | None:
    """A column against its value on clean images, as in `tradeoff.png`: a panel per attack and threat."""
    from rtok.reporting.figures.tradeoff import Places

    known = [row for row in rows if row.get(column.key) is not None and row.get(column.clean) is not None]
    robust = [row for row in known if row["victim"] == "robust"]
    places = Places(Naming.of(robust).files, settings)
    names = list(enumerate(dict.fromkeys(places.line(row) for row in robust)))
    threats = list(dict.fromkeys(Identity.of(row).threat_label for row in robust))
    attacks = by_attack(known)
    panels = []
    for title, group in attacks:
        for threat in threats:
            series = [_tradeoff_line(i, name, _under(group, threat, "robust"), places, column) for i, name in names]
            series += [
                Series(label, f"{victim} few", [_clean_and_attacked(row, label, column) for row in found], joined=False)
                for victim, label, found in (
                    ("random", "control", _under(group, threat, "random")),
                    ("plain", "plain, transfer", _under(group, "transfer", "plain")),
                )
            ]
            heading = threat if len(attacks) == 1 else f"{threat}, {title}"
            panels.append((heading, [line for line in series if line.points]))
    panels = [(heading, series) for heading, series in panels if series]
    return Curves(panels, column.clean.replace("_", " "), column.title) if panels else None


def _under(rows: Sequence[Row], threat: str, victim: str) -> list[Row]:
    return [row for row in rows if row["victim"] == victim and Identity.of(row).threat_label == threat]


def _tradeoff_line(number: int, name: str, rows: Sequence[Row], places: Places, column: Column) -> Series:
    """The defenses of one line, in the order of what is varied along it; seeds are points of their own, not joined."""
    placed = [(places.place(row), row) for row in rows if places.line(row) == name]
    varied = [place for place, _ in placed if not isinstance(place, str)]
    ordered = sorted(placed, key=lambda found: float(found[0])) if len(varied) == len(placed) else placed
    labels = [" ".join(dict.fromkeys((name, places.label(place)))) for place, _ in ordered]
    points = [_clean_and_attacked(row, label, column) for label, (_, row) in zip(labels, ordered, strict=True)]
    return Series(name, f"shade{2 * number % 6}", points, joined=1 < len(set(varied)) == len(placed))


def _clean_and_attacked(row: Row, name: str, column: Column) -> Point:
    value = float(row[column.key])
    clean = float(row[column.clean])
    words = f"{name}: {column.title} {cell(row, column)}, {column.clean.replace('_', ' ')} {clean:.{column.digits}f}"
    return Point(clean, value, value, value, words)


def training_curves(metrics: Sequence[Mapping[str, Any]]) -> Curves | None:
    """The cosine to the plain clean features against the step.

    One training has one panel with the three terms; several have a panel per term with a line for each of them.
    """
    trainings: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for row in metrics:
        trainings.setdefault((row.get("count"), row.get("seed")), []).append(row)
    panels: list[tuple[str, list[Series]]] = []
    if len(trainings) == 1:
        (rows,) = trainings.values()
        panels = [("", [Series(name, look, _by_step(rows, term, name)) for term, name, look in TERMS])]
    else:
        for term, title, _ in TERMS:
            names = [_training(*about) for about in trainings]
            lines = zip(names, trainings.values(), strict=True)
            series = [Series(name, f"shade{i % 6}", _by_step(rows, term, name)) for i, (name, rows) in enumerate(lines)]
            panels.append((title, series))
    kept = [(title, [line for line in series if line.points]) for title, series in panels]
    kept = [(title, series) for title, series in kept if series]
    return Curves(kept, "step", "cosine to the plain clean features") if kept else None


def _by_step(rows: Sequence[Mapping[str, Any]], term: str, name: str) -> list[Point]:
    known = [row for row in rows if row.get(term) is not None and row.get("step") is not None]
    every = -(-len(known) // _POINTS) or 1
    parts = [known[i : i + every] for i in range(0, len(known), every)]
    points = []
    for part in parts:
        values, steps = [float(row[term]) for row in part], [int(row["step"]) for row in part]
        value = sum(values) / len(values)
        when = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        points.append(Point(sum(steps) / len(steps), value, value, value, f"{name}, {when}: {value:.3f}"))
    return points


def _training(count: Any, seed: Any) -> str:
    words = [counted(count, "token")] if isinstance(count, int) else []
    return ", ".join([*words, f"seed {seed}"])


def _values(row: Row, key: str) -> tuple[float, float, float]:
    """A number with the ends of its interval."""
    value = float(row[key])
    low, high = interval_of(row, key) or (value, value)
    return value, low, high


def _look(row: Row) -> str:
    return row["victim"] if row["victim"] in VICTIMS else "other"


def _looks(lines: Mapping[str, Sequence[Row]]) -> Iterator[tuple[str, str]]:
    """A color per kind of victim, a dash per line of one color."""
    drawn: dict[str, int] = {}
    for label, rows in lines.items():
        color = _look(rows[0])
        number = drawn[color] = drawn.get(color, -1) + 1
        yield label, f"{color} dash{number % 4}"
