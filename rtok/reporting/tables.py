"""Result tables for the terminal, from the rows of `results.json`; reports (`rtok report`) take their cells from here.

A command's table is a tuple of columns: `COLUMNS["eval-features"]`. Rows of one attack form one table,
whose title says what the attack was. What is the same in all rows of a table (one token file, one
surrogate) goes below it, and where the terminal is narrow the least important columns give way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtok.console import guarded, is_main_process, open_console
from rtok.reporting.differences import gains
from rtok.reporting.labels import ATTACK, Row, by_attack, capital, counted, token_names
from rtok.reporting.sanity import sanity_table, verdict

ABSENT = "–"  # noqa: RUF001 (an en dash stands for null)


@dataclass(frozen=True)
class Column:
    """One column: the row's key, its heading (line breaks keep it narrow), and how much it matters.

    `keep`: columns with the smallest value go first where the terminal is narrow; `None` never goes.
    `identity`: says which row it is rather than what was measured; it goes below the table where the threat
        already tells it, unless `keep` is None.
    `interval`: append the row's `ci95[key]`.
    `headline`: the number that counts.
    `meaning`: a sentence for below the table.
    """

    key: str
    heading: str
    keep: int | None = None
    identity: bool = False
    interval: bool = False
    headline: bool = False
    digits: int = 3
    meaning: str = ""

    @property
    def title(self) -> str:
        """The heading on one line."""
        return self.heading.replace("\n", " ")


COLUMNS: dict[str, tuple[Column, ...]] = {
    "eval-features": (
        Column("threat", "threat", identity=True),
        Column("victim", "victim", identity=True),
        Column("tokens", "tokens", identity=True, keep=9),
        Column("n", "token\ncount", identity=True, keep=9),
        Column("surrogate", "surrogate", identity=True, keep=0),
        Column("queries", "queries", identity=True, keep=10),
        Column("start", "start", identity=True, keep=10),
        Column(
            "cosine_to_plain",
            "cosine\nto plain",
            interval=True,
            headline=True,
            meaning="the victim's features of the adversarial image to the plain model's of the clean one",
        ),
        Column("fidelity", "fidelity", keep=8),
        Column("cosine", "cosine", keep=7),
        Column("cosine_cls", "cosine\nCLS", keep=5),
        Column("image_linf_255", "Linf\n(of 255)", keep=6, digits=1),
        Column("cosine_to_plain_token", "to plain,\ntoken axis", keep=4),
        Column("fidelity_token", "fidelity,\ntoken axis", keep=3),
        Column("cosine_token", "cosine,\ntoken axis", keep=2),
        Column("mse", "MSE", keep=1),
    ),
    "eval-class": (
        Column("threat", "threat", identity=True),
        Column("victim", "victim", identity=True),
        Column("head_features", "head", identity=True, keep=9),
        Column("tokens", "tokens", identity=True, keep=9),
        Column("n", "token\ncount", identity=True, keep=9),
        Column("surrogate", "surrogate", identity=True, keep=0),
        Column("queries", "queries", identity=True, keep=10),
        Column("start", "start", identity=True, keep=10),
        Column("adversarial_accuracy", "adversarial\naccuracy", interval=True, headline=True),
        Column("clean_accuracy", "clean\naccuracy", keep=8),
        Column("flipped", "flipped", keep=7),
        Column(
            "surrogate_success",
            "fooled",
            keep=5,
            meaning="share of the images the surrogate had right that made it err",
        ),
        Column(
            "accuracy_on_success",
            "right if\nfooled",
            keep=6,
            meaning="the victim's accuracy on the images that fooled the surrogate",
        ),
        Column("image_linf_255", "Linf\n(of 255)", keep=4, digits=1),
    ),
    "eval-seg": (
        Column("threat", "threat", identity=True),
        Column("victim", "victim", identity=True),
        Column("head_features", "head", identity=True, keep=9),
        Column("tokens", "tokens", identity=True, keep=9),
        Column("n", "token\ncount", identity=True, keep=9),
        Column("surrogate", "surrogate", identity=True, keep=0),
        Column("queries", "queries", identity=True, keep=10),
        Column("start", "start", identity=True, keep=10),
        Column(
            "adversarial_miou",
            "adversarial\nmIoU",
            interval=True,
            headline=True,
            meaning="one confusion matrix over the data set",
        ),
        Column("clean_miou", "clean\nmIoU", interval=True, keep=8),
        Column(
            "adversarial_image_miou",
            "adversarial\nimage mIoU",
            keep=7,
            meaning="the mean over images of each image's own mIoU, which the original code reports",
        ),
        Column("clean_image_miou", "clean\nimage mIoU", keep=6),
        Column("pixel_accuracy", "pixel\naccuracy", keep=5, meaning="of the adversarial images"),
        Column("image_linf_255", "Linf\n(of 255)", keep=4, digits=1),
    ),
}


def print_results(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables of `results` (the content of `results.json`), as wide as the terminal allows.

    Only the main process speaks.
    """
    if not is_main_process():
        return
    columns = COLUMNS[results["command"]]
    target = console or open_console()
    images = f"Measured on {counted(results['images'], 'image')}."
    for title, rows in by_attack(results["rows"]):
        below = notes(rows, columns, results.get("differences", ()))
        lines = [
            Text(title, style="bold"),
            results_table(rows, columns, width=target.width),
            *map(Text, [images, *below]),
            Text(),
        ]
        guarded(partial(target.print, *lines, sep="\n"))
    if results.get("sanity"):
        found = results["sanity"]
        guarded(partial(target.print, Text(verdict(found), style="bold"), sanity_table(found), sep="\n"))


def results_table(rows: Sequence[Row], columns: Sequence[Column], *, width: int = 80) -> Table:
    """Return a rich table of `rows` that is at most `width` characters wide.

    Columns give way in the order of their `keep` until the rest fits; a column that is null in every row is
    left out.
    """
    shown = varying(rows, columns)
    # Measured without colours or wrapping: what the table would like to have.
    ruler = Console(width=1000)
    while ruler.measure(table := _table(rows, shown)).maximum > width:
        optional = [column for column in shown if column.keep is not None]
        if not optional:
            break
        least = min(optional, key=lambda column: column.keep or 0)
        shown = [column for column in shown if column is not least]
    return table


def notes(rows: Sequence[Row], columns: Sequence[Column], differences: Sequence[Row] = ()) -> list[str]:
    """Say what all rows share, what the headline means, what the intervals are, what the training bought.

    Args:
        differences: those of `results.json`; the ones of these rows' attack are told.
    """
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
    lines += [f"{capital(column.title)}: {column.meaning}." for column in columns if column.meaning]
    if any(_interval(row, column) for row in rows for column in columns if column.interval):
        lines.append("Intervals are 95 %.")
    of_attack = [row for row in differences if all(row[key] == rows[0].get(key) for key in ATTACK)]
    ordered = sorted(columns, key=lambda column: not column.headline)
    return lines + gains(of_attack, [column.key for column in ordered], token_names(rows))


def varying(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """Drop columns that are null in every row, and those that `notes` tells below the table."""

    def wanted(column: Column) -> bool:
        threats = _values_by_threat(rows, column)
        return column.keep is None or (any(threats.values()) and not _in_note(column, threats))

    return [column for column in columns if wanted(column)]


def cell(row: Row, column: Column, names: Mapping[str, str] | None = None) -> str:
    """Return one cell's text: `0.692`, `0.692 ± 0.031`, `0.950 [0.931, 0.964]`, a name, an en dash for null.

    `names` has short forms of long names (token files).
    """
    value = row.get(column.key)
    if value is None:
        return ABSENT
    if isinstance(value, str | int):
        return (names or {}).get(str(value), str(value))
    text = f"{value:.{column.digits}f}"
    interval = _interval(row, column) if column.interval else None
    if interval is None:
        return text
    low, high = interval
    if abs((high - value) - (value - low)) < 10.0**-column.digits:
        return f"{text} ± {(high - low) / 2:.{column.digits}f}"
    return f"{text} [{low:.{column.digits}f}, {high:.{column.digits}f}]"


def _interval(row: Row, column: Column) -> Sequence[float] | None:
    return (row.get("ci95") or {}).get(column.key)


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


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        style = "bold cyan" if column.headline else None
        justify: Literal["left", "right"] = "left" if column.identity else "right"
        table.add_column(column.heading, justify=justify, style=style, header_style=style, vertical="bottom")
    names = token_names(rows)
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before.get("threat") != row.get("threat"):
            table.add_section()
        table.add_row(*(Text(cell(row, column, names)) for column in columns))
    return table
