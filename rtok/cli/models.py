"""`rtok models`."""

from __future__ import annotations

import sys


def models() -> None:
    """List the backbones that `model.name` in a config can be; in a pipe, one line each with tabs."""
    from rich.table import Table

    from rtok.console import guarded, open_console
    from rtok.models.registry import all_specs

    headings = ("model.name", "family", "patch", "width", "registers", "native px", "params")
    rows = [
        (s.name, s.family, *map(str, (s.patch_size, s.dim, s.registers, s.native_size)), f"{s.params:g} M")
        for s in all_specs()
    ]
    if not sys.stdout.isatty():
        guarded(lambda: print(*map("\t".join, [headings, *rows]), sep="\n"))
        return
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=True, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(*row)
    open_console().print(table)
