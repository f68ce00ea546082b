"""The results of an evaluation as a Python program gets them: rows, a data frame, a figure, a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.errors import UserError, nearest
from rtok.reporting.tables import cell, notes, varying
from rtok.results.columns import COLUMNS, Column, main_column
from rtok.results.files import read_results
from rtok.results.rows import Naming, Row, by_attack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = "padding: .2em .6em; text-align: {}; vertical-align: bottom"  # a notebook's own style may center numbers


class Results(dict[str, Any]):
    """The content of `results.json`; a notebook shows its tables.

    Attributes:
        out: the run's folder, with the figures and `per_image.csv`.
    """

    def __init__(self, content: Mapping[str, Any], out: Path) -> None:
        super().__init__(content)
        self.out = out

    @classmethod
    def load(cls, run: str | Path) -> Results:
        """Read the results of an earlier run from its folder.

        Raises:
            UserError: the folder holds none, or they are damaged.
        """
        return cls(read_results(Path(run) / "results.json"), Path(run))

    @property
    def rows(self) -> list[Row]:
        """One row per attack, threat, victim and head: who it is about, the measured numbers, and their `ci95`."""
        return list(self["rows"])

    @property
    def main_column(self) -> str:
        """The column that counts most, such as `cosine_to_plain`."""
        return main_column(self["command"]).key

    def to_pandas(self) -> Any:
        """Return the rows as a `pandas.DataFrame`; the intervals become columns `NAME_low` and `NAME_high`.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("to_pandas needs pandas, which is not installed: pip install pandas.") from None
        return pandas.DataFrame([_flat(row) for row in self.rows])

    def plot(self, column: str | None = None) -> Figure:
        """Draw a column as bars with their intervals: one panel per attack, grouped by threat.

        Args:
            column: a measured column; None takes the main one.

        Raises:
            UserError: there is no such column, or no row has a value in it.
        """
        from rtok.reporting.figures.summary import bars

        known = {one.key: one for one in COLUMNS[self["command"]] if not one.identity}
        wanted = column or self.main_column
        rows = [row for row in self.rows if row.get(wanted) is not None]
        if wanted not in known or not rows:
            measured = [key for key in known if any(row.get(key) is not None for row in self.rows)]
            raise UserError(f"There is no column '{wanted}'.{nearest(wanted, measured)} Valid: {', '.join(measured)}.")
        return bars(rows, known[wanted])

    def _repr_html_(self) -> str:
        """Return one table per attack, and below it what its columns mean."""
        columns = COLUMNS[self["command"]]
        parts = []
        for title, rows in by_attack(self.rows):
            shown = varying(rows, columns)
            below = notes(rows, columns, self.get("differences") or (), shown)
            parts += [f"<h4>{escape(title)}</h4>", _table(rows, shown)]
            parts += [f"<p>{escape(line)}</p>" for line in below]
        return "\n".join(parts)


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    files = Naming.of(rows).files
    head = _line("th", ((column, column.title) for column in columns))
    body = "".join(_line("td", ((column, cell(row, column, files)) for column in columns)) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _line(tag: str, cells: Iterable[tuple[Column, str]]) -> str:
    styled = (
        f'<{tag} style="{_CELL.format("left" if column.identity else "right")}">{escape(text)}</{tag}>'
        for column, text in cells
    )
    return f"<tr>{''.join(styled)}</tr>"


def _flat(row: Row) -> Row:
    flat = {key: value for key, value in row.items() if key != "ci95"}
    for key, interval in (row.get("ci95") or {}).items():
        flat[f"{key}_low"], flat[f"{key}_high"] = interval or (None, None)
    return flat
