"""`rtok configs`."""

from __future__ import annotations

from typing import Annotated

import typer


def build() -> typer.Typer:
    """Return the command with its one sub-command."""
    app = typer.Typer(invoke_without_command=True)

    @app.callback()
    def configs(context: typer.Context) -> None:
        """List the ready configs: run one with --config NAME, or copy it to edit it."""
        if context.invoked_subcommand is None:
            typer.echo(listing())

    app.command("copy")(copy)
    return app


def copy(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="As `rtok configs` lists it; without the command, every command's."
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="Where to.")] = ".",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files.")] = False,
) -> None:
    """Write a ready config out, as COMMAND-NAME.yaml, to edit it."""
    from pathlib import Path

    from rtok.config.ready import named
    from rtok.errors import UserError
    from rtok.files import write_atomic

    copies = {Path(out, f"{full.replace('/', '-')}.yaml"): path for full, path in named(name).items()}
    for target in copies:
        if target.exists() and not overwrite:
            raise UserError(
                f"'{target}' exists already: replace it with --overwrite, or choose another --out."
            )
    for target, path in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, path.read_bytes())
        typer.echo(f"wrote {target}")


def listing() -> str:
    """Every ready config, with the first line of its comment."""
    from rtok.config.ready import all_ready

    ready = all_ready()
    width = max(map(len, ready), default=0)
    about = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in ready.items()}
    return "\n".join(f"{name:<{width}}  {line.lstrip('# ')}" for name, line in about.items())
