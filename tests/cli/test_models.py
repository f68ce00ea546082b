from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.models.registry import all_specs


def test_the_table_names_every_backbone() -> None:
    done = CliRunner().invoke(build(), ["models"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    for spec in all_specs():
        [row] = [row for row in rows if row[:1] == [spec.name]]
        assert row[1:6] == [spec.family, *map(str, (spec.patch_size, spec.dim, spec.registers, spec.native_size))]
