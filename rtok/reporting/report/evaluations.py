"""What a report says of evaluations: the main number of each, then every table, the gains, the sanity checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtok.reporting.differences import gains
from rtok.reporting.methods import over_seeds
from rtok.reporting.report.blocks import Block, Heading, Paragraph, Table
from rtok.reporting.report.runs import Run, distinct, model
from rtok.reporting.sanity import check_lines, verdict
from rtok.reporting.tables import cautions, cell, fitting, notes, varying
from rtok.results.columns import COLUMNS, Column, main_column
from rtok.results.rows import Identity, Naming, Row, attack_title, by_attack, same_attack
from rtok.results.words import capital, counted

_RUN = Column("run", "run", identity=True, keep=12)


def overview(runs: Sequence[Run]) -> Iterator[Block]:
    """The main number of every evaluation: one table per command, one line per victim, one column per threat."""
    measured = [run for run in runs if _rows(run)]
    for command in distinct(run.command for run in measured):
        members = [run for run in measured if run.command == command]
        yield Heading(2, f"Overview: {main_column(command).title}")
        yield from matrix(members, main_column(command))
        for run in members:
            found = (run.results or {}).get("sanity")
            if found and not all(check["passed"] for check in found["checks"]):
                yield Paragraph(f"{run.name}: {verdict(found)}", alarm=True)


def matrix(runs: Sequence[Run], column: Column) -> Iterator[Block]:
    """One column of some runs' results: one line per victim, one column per threat."""
    rows = [(run, row, Identity.of(row)) for run in runs for row in _rows(run)]
    naming = Naming.of((row for _, row, _ in rows), whole=True)
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for run, row, who in rows:
        about = (run.name, model(run), str(who.attack), who.victim_label(naming))
        lines.setdefault(about, {})[who.threat_label] = cell(row, column)
    threats = distinct(threat for cells in lines.values() for threat in cells)
    head = ("run", "model", "attack", "victim")
    several = [i for i in range(len(head)) if len({about[i] for about in lines}) > 1 or i == len(head) - 1]
    # What all lines share is said once, above; the attack's own tables say the rest of it.
    whole = {1: model(runs[0]), 2: attack_title([rows[0][1]]).removeprefix("attack ")}
    same = [f"{capital(head[i])}: {text}." for i, text in whole.items() if i not in several]
    meaning = [f"{capital(column.title)}: {column.meaning}."] if column.meaning else []
    yield Paragraph(" ".join([*meaning, *same, "One column per threat. Intervals are 95 %."]))
    yield Table(
        [*(head[i] for i in several), *threats],
        [[*(about[i] for i in several), *(cells.get(t, "") for t in threats)] for about, cells in lines.items()],
        frozenset(range(len(several), len(several) + len(threats))),
    )


def evaluations(runs: Sequence[Run], *, width: int | None = None) -> Iterator[Block]:
    """Every table of the runs of one command on one model, one per attack; then the sanity checks.

    Args:
        width: characters that a table may have: the least important columns give way. None: all columns.
    """
    several = len(runs) > 1
    columns = (*([_RUN] if several else []), *COLUMNS[runs[0].command])
    rows: list[Row] = [{**row, "run": run.name} for run in runs for row in _rows(run)]
    for title, group in by_attack(rows):
        yield Heading(3, title)
        shown = varying(group, columns) if width is None else fitting(group, columns, width=width)
        files = Naming.of(group).files
        number = {i for i, column in enumerate(shown) if not column.identity or column.key in ("n", "queries")}
        yield Table(
            [column.title for column in shown],
            [[cell(row, column, files) for column in shown] for row in group],
            frozenset(number),
            frozenset(i for i, column in enumerate(shown) if column.main),
        )
        yield Paragraph(" ".join(notes(group, columns, shown=None if width is None else shown)))
        for run in runs:
            yield from _gained(run, group, columns, several)
    for run in runs:
        yield from _sanity(run, several)


def _gained(run: Run, group: Sequence[Row], columns: Sequence[Column], several: bool) -> Iterator[Block]:
    of_run = [row for row in group if row["run"] == run.name]
    if not of_run or run.results is None:
        return
    same, methods = (same_attack(run.results[part], of_run) for part in ("differences", "methods"))
    images = f"{run.name}: measured" if several else "Measured"
    lines = [f"{images} on {counted(run.results['images'], 'image')}.", *gains(same, columns, Naming.of(of_run).files)]
    lines += cautions(run.results, of_run)
    yield Paragraph(" ".join([*lines, *over_seeds(methods, columns)]))


def _sanity(run: Run, several: bool) -> Iterator[Block]:
    found = (run.results or {}).get("sanity")
    if not found:
        return
    yield Heading(3, f"Sanity checks of {run.name}" if several else "Sanity checks")
    lines = [[name, seen, "passed" if passed else "FAILED"] for name, seen, passed in check_lines(found)]
    yield Paragraph(verdict(found), alarm=any(line[2] == "FAILED" for line in lines))
    yield Table(("check", "result", "verdict"), lines)


def _rows(run: Run) -> Sequence[Row]:
    return run.results["rows"] if run.results else ()
