"""Result tables for the terminal, from the rows of `results.json`; reports (`rtok report`) take their cells from here.

Rows of one attack form one table, whose title says what the attack was. What is the same in all rows of a table (one
defense, one surrogate) goes below it, and where the terminal is narrow the least important columns give way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtok.console import guarded, is_main_process, open_console
from rtok.reporting.differences import gains
from rtok.reporting.methods import over_seeds
from rtok.reporting.sanity import sanity_table, verdict
from rtok.results.columns import COLUMNS, Column
from rtok.results.rows import SEEN, Naming, Row, by_attack, interval_of, same_attack
from rtok.results.words import capital, counted, with_interval

ABSENT = "–"  # noqa: RUF001 (an en dash stands for null)


def print_results(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables of `results` (the content of `results.json`), as wide as the terminal allows.

    Only the main process prints.
    """
    if not is_main_process():
        return
    columns = COLUMNS[results["command"]]
    target = console or open_console()
    images = f"Measured on {counted(results['images'], 'image')}."
    for title, rows in by_attack(results["rows"]):
        shown = fitting(rows, columns, width=target.width)
        below = notes(rows, columns, results.get("differences", ()), shown)
        below += cautions(results, rows)
        below += over_seeds(same_attack(results.get("methods", ()), rows), columns)
        lines = [Text(title, style="bold"), results_table(rows, shown), *map(Text, [images, *below]), Text()]
        guarded(partial(target.print, *lines, sep="\n"))
    if results.get("sanity"):
        found = results["sanity"]
        guarded(partial(target.print, Text(verdict(found), style="bold"), sanity_table(found), sep="\n"))


def fitting(rows: Sequence[Row], columns: Sequence[Column], *, width: int = 80) -> list[Column]:
    """Return the columns of a table of `rows` that is at most `width` characters wide.

    Columns give way in the order of their `keep` until the rest fits; a column that is null in every row is
    left out.
    """
    shown = varying(rows, columns)
    # Measured without colors or wrapping: what the table would like to have.
    ruler = Console(width=1000)
    while ruler.measure(results_table(rows, shown)).maximum > width:
        optional = [column for column in shown if column.keep is not None]
        if not optional:
            break
        least = min(optional, key=lambda column: column.keep or 0)
        shown = [column for column in shown if column is not least]
    return shown


def notes(
    rows: Sequence[Row],
    columns: Sequence[Column],
    differences: Sequence[Row] = (),
    shown: Sequence[Column] | None = None,
) -> list[str]:
    """Say what all rows share, what the columns mean, what the intervals are, what the defense gains.

    Args:
        differences: those of `results.json`; the ones of these rows' attack are reported.
        shown: the columns of the table, the only ones that are explained; None means all.
    """
    shown = columns if shown is None else shown
    shared = []
    for column in columns:
        threats = _values_by_threat(rows, column)
        if not _in_note(column, threats):
            continue
        values = {value for found in threats.values() for value in found}
        if len(values) == 1:
            shared.append(f"{column.title}: {values.pop()}")
        elif values:
            told = [f"{', '.join(map(str, found))} ({threat})" for threat, found in threats.items() if found]
            shared.append(f"{column.title}: {', '.join(told)}")
    lines = ["; ".join(shared) + "."] if shared else []
    lines += _seen(rows)
    explained = (column for column in shown if column.meaning and any(row.get(column.key) is not None for row in rows))
    lines += [f"{capital(column.title)}: {column.meaning}{_chance(rows, column)}." for column in explained]
    if any(interval_of(row, column.key) for row in rows for column in shown if column.interval):
        lines.append("Intervals are 95 %.")
    own = {row["victim"] for row in rows if row.get("head_features") == "robust"}
    if own == {"robust"}:
        lines.append("The control has no head of its own: files hold none for it. head: {type: fit} fits one.")
    return lines + gains(same_attack(differences, rows), columns, Naming.of(rows).files)


def cautions(results: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return what the results say against the attack of some rows."""
    text = (results.get("cautions") or {}).get(rows[0].get("attack"))
    return [text] if text else []


def varying(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """Drop columns that are null in every row, and those that `notes` gives below the table."""
    below = {column.chance for column in columns}

    def wanted(column: Column) -> bool:
        threats = _values_by_threat(rows, column)
        shown = any(threats.values()) and column.key not in below and not _in_note(column, threats)
        return column.keep is None or shown

    return [column for column in columns if wanted(column)]


def cell(row: Row, column: Column, files: Mapping[str, str] | None = None) -> str:
    """Return one cell's text: `0.692`, `0.692 ± 0.031`, `0.950 [0.931, 0.964]`, a name, an en dash for null.

    `files` has short names of defense files.
    """
    value = row.get(column.key)
    if value is None:
        return ABSENT
    if isinstance(value, str | int):
        return (files or {}).get(str(value), str(value))
    return with_interval(value, interval_of(row, column.key) if column.interval else None, column.digits)


def _chance(rows: Sequence[Row], column: Column) -> str:
    """Say what guessing would give, which is the same in all rows; "" where nothing is known of it."""
    known = (row[column.chance] for row in rows if row.get(column.chance) is not None)
    return f"; by chance {value:.{column.digits}f}" if (value := next(known, None)) is not None else ""


def _seen(rows: Sequence[Row]) -> list[str]:
    """Say of each defense how many of the images its training saw."""
    found, names = {row["defense"]: row[SEEN] for row in rows if row.get(SEEN)}, Naming.of(rows).files
    return [
        f"NOT HELD OUT: the training of defense {names[defense]} saw {seen:.0f} of these images."
        for defense, seen in found.items()
    ]


def _values_by_threat(rows: Sequence[Row], column: Column) -> dict[Any, list[Any]]:
    """Return every threat's distinct values of a column, nulls left out, in order of first appearance."""
    found: dict[Any, dict[Any, None]] = {}
    for row in rows:
        values = found.setdefault(row.get("threat"), {})
        if row.get(column.key) is not None:
            values[row[column.key]] = None
    return {threat: list(values) for threat, values in found.items()}


def _in_note(column: Column, threats: Mapping[Any, Sequence[Any]]) -> bool:
    """Whether an identity says no more than the threat does."""
    return column.identity and column.keep is not None and all(len(found) <= 1 for found in threats.values())


def results_table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Return a rich table of `rows`, as wide as its columns need."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        style = "bold cyan" if column.main else None
        justify: Literal["left", "right"] = "left" if column.identity else "right"
        table.add_column(column.heading, justify=justify, style=style, header_style=style, vertical="bottom")
    files = Naming.of(rows).files
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.get("threat") != row.get("threat"):
            table.add_section()
        table.add_row(*(Text(cell(row, column, files)) for column in columns))
    return table
