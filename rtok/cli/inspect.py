"""`rtok inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtok.cli.paths import user_path
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.inspection import Inspection


def inspect(
    files: Annotated[
        list[Path],
        typer.Argument(
            parser=user_path, metavar="FILE...", help="Checkpoints, run folders, converted models or heads."
        ),
    ],
) -> None:
    """Describe a checkpoint: its kind, backbone, tokens, tensors and training."""
    from rtok.inspection import inspect

    found: list[str] = []
    wrong: list[str] = []
    for file in files:
        try:
            found += [text(inspection) for inspection in inspect(file)]
        except UserError as error:
            wrong.append(str(error))
    if found:
        typer.echo("\n\n".join(found))
    if wrong:
        raise UserError("\n".join(wrong))


def text(inspection: Inspection) -> str:
    """Return the inspection as lines of label and text."""
    from rtok.config import strict_yaml

    facts = {"kind": inspection.kind, **inspection.facts}
    label = max(map(len, facts))
    name = max((len(row[0]) for row in inspection.tensors), default=0)
    shape = max((len(row[1]) for row in inspection.tensors), default=0)
    lines = [
        str(inspection.path),
        *(f"  {key:<{label}}  {value}" for key, value in facts.items()),
        "tensors",
        *(f"  {row[0]:<{name}}  {row[1]:<{shape}}  {row[2]}" for row in inspection.tensors),
    ]
    if inspection.config:
        dumped = strict_yaml.dump(dict(inspection.config)).rstrip("\n")
        lines += ["training", *(f"  {line}" for line in dumped.split("\n"))]
    return "\n".join(lines)
