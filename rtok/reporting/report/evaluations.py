"""What a report says of evaluations: the headline of all, then every table, what tokens bought, the sanity checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtok.reporting.differences import gains
from rtok.reporting.labels import ATTACK, Row, attack_title, by_attack, capital, counted, token_names
from rtok.reporting.report.blocks import Block, Heading, Paragraph, Table
from rtok.reporting.report.runs import Run, distinct, model
from rtok.reporting.sanity import check_lines, verdict
from rtok.reporting.tables import COLUMNS, Column, cell, notes, varying

_RUN = Column("run", "run", identity=True, keep=11)


def overview(runs: Sequence[Run]) -> Iterator[Block]:
    """The headline of every evaluation: a table a command, a line an attack and victim, a column a threat."""
    measured = [run for run in runs if _rows(run)]
    for command in distinct(run.command for run in measured):
        members = [run for run in measured if run.command == command]
        headline = next(column for column in COLUMNS[command] if column.headline)
        yield Heading(2, f"Overview: {headline.title}")
        yield from _matrix(members, headline)
        for run in members:
            found = (run.results or {}).get("sanity")
            if found and not all(check.get("passed") for check in found["checks"]):
                yield Paragraph(f"{run.name}: {verdict(found)}", alarm=True)


def _matrix(runs: Sequence[Run], headline: Column) -> Iterator[Block]:
    rows = [(run, row) for run in runs for row in _rows(run)]
    names = token_names(row for _, row in rows)
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for run, row in rows:
        who = (run.name, model(run), str(row.get("attack")), _victim(row, names))
        lines.setdefault(who, {})[_threat(row)] = cell(row, headline)
    threats = distinct(threat for cells in lines.values() for threat in cells)
    head = ("run", "model", "attack", "victim")
    several = [i for i in range(len(head)) if len({who[i] for who in lines}) > 1 or i == len(head) - 1]
    # What all lines share is said once, above; the attack's own tables say the rest of it.
    whole = {1: model(runs[0]), 2: attack_title([rows[0][1]]).removeprefix("attack ")}
    same = [f"{capital(head[i])}: {text}." for i, text in whole.items() if i not in several]
    meaning = [f"{capital(headline.title)}: {headline.meaning}."] if headline.meaning else []
    yield Paragraph(
        " ".join([*meaning, *same, "A column a threat: what the attacker has. Intervals are 95 %."])
    )
    yield Table(
        [*(head[i] for i in several), *threats],
        [[*(who[i] for i in several), *(cells.get(t, "") for t in threats)] for who, cells in lines.items()],
        frozenset(range(len(several), len(several) + len(threats))),
    )


def _victim(row: Row, names: dict[str, str]) -> str:
    about = {
        "random": row.get("n") and counted(row["n"], "token"),
        "robust": names.get(str(row.get("tokens"))),
    }
    parts = [about.get(row["victim"]), row.get("head_features") and f"{row['head_features']} head"]
    said = ", ".join(part for part in parts if part)
    return f"{row['victim']} ({said})" if said else str(row["victim"])


def _threat(row: Row) -> str:
    if row.get("queries") is None:
        return str(row["threat"])
    return f"{row['threat']} ({row['queries']}, {row.get('start')})"


def evaluations(runs: Sequence[Run]) -> Iterator[Block]:
    """Every table of runs of one command on one model, the same attack's in one; then the sanity checks."""
    columns = (_RUN, *COLUMNS[runs[0].command])
    rows: list[Row] = [{**row, "run": run.name} for run in runs for row in _rows(run)]
    several = len(runs) > 1
    for title, group in by_attack(rows):
        yield Heading(3, title)
        shown = varying(group, columns if several else columns[1:])
        names = token_names(group)
        yield Table(
            [column.title for column in shown],
            [[cell(row, column, names) for column in shown] for row in group],
            frozenset(
                i for i, column in enumerate(shown) if not column.identity or column.key in ("n", "queries")
            ),
            frozenset(i for i, column in enumerate(shown) if column.headline),
        )
        yield Paragraph(" ".join(notes(group, columns if several else columns[1:])))
        for run in runs:
            yield from _bought(run, group, columns, several)
    for run in runs:
        yield from _sanity(run, several)


def _bought(run: Run, group: Sequence[Row], columns: Sequence[Column], several: bool) -> Iterator[Block]:
    of_run = [row for row in group if row["run"] == run.name]
    if not of_run or run.results is None:
        return
    images = f"{run.name}: measured" if several else "Measured"
    same = [
        row
        for row in run.results.get("differences") or ()
        if all(row.get(key) == of_run[0].get(key) for key in ATTACK)
    ]
    keys = [column.key for column in sorted(columns, key=lambda column: not column.headline)]
    lines = [f"{images} on {run.results.get('images')} images.", *gains(same, keys, token_names(of_run))]
    yield Paragraph(" ".join(lines))


def _sanity(run: Run, several: bool) -> Iterator[Block]:
    found = (run.results or {}).get("sanity")
    if not found:
        return
    yield Heading(3, f"Sanity of the attacks of {run.name}" if several else "Sanity of the attacks")
    lines = [[name, seen, "passed" if passed else "FAILED"] for name, seen, passed in check_lines(found)]
    yield Paragraph(verdict(found), alarm=any(line[2] == "FAILED" for line in lines))
    yield Table(("check", "what was seen", "verdict"), lines)


def _rows(run: Run) -> Sequence[Row]:
    return run.results["rows"] if run.results else ()
