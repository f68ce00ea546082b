"""`rtok models`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def models(
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="List timm's plain ViTs whose names contain this, instead.")
    ] = None,
) -> None:
    """List the backbones that `model.name` in a config can be; in a pipe, one line each with tabs."""
    from rich.table import Table

    from rtok.console import guarded, open_console
    from rtok.errors import UserError
    from rtok.models import registry

    specs, others = (registry.all_specs(), 0) if search is None else registry.search(search)
    if not specs:
        raise UserError(f"--search {search}: timm has {others or 'no'} models of this name, and no plain ViT.")

    headings = ("model.name", "family", "patch", "width", "registers", "native px", "params")
    rows = [
        (s.name, s.family, *map(str, (s.patch_size, s.dim, s.registers, s.native_size)), f"{s.params:g} M")
        for s in specs
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
