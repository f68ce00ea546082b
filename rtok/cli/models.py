"""`rtok models`."""

from __future__ import annotations


def models() -> None:
    """List the backbones that `model.name` in a config can be."""
    from rich import box
    from rich.table import Table

    from rtok.console import open_console
    from rtok.models.registry import all_specs

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("model.name", "family"):
        table.add_column(heading, no_wrap=True)
    for heading in ("patch", "width", "registers", "native px", "params"):
        table.add_column(heading, justify="right")
    for spec in all_specs():
        sizes = (spec.patch_size, spec.dim, spec.registers, spec.native_size)
        table.add_row(spec.name, spec.family, *map(str, sizes), f"{spec.params:g} M")
    open_console().print(table)
