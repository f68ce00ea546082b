"""`rtok configs`."""

from __future__ import annotations

from typing import Annotated

import typer

from rtok.cli.completion import any_ready


def build() -> typer.Typer:
    """Return the command with its one sub-command."""
    app = typer.Typer(invoke_without_command=True)

    @app.callback()
    def configs(context: typer.Context) -> None:
        """List the ready configs. Run one with --config NAME, or copy it and edit the copy."""
        if context.invoked_subcommand is None:
            typer.echo(listing())

    app.command("copy")(copy)
    return app


def copy(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name from `rtok configs`; without its command, that of every command.",
            autocompletion=any_ready,
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="The folder to write to.")] = ".",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Write a ready config to COMMAND-NAME.yaml, or a protocol to NAME.yaml, for you to edit."""
    from pathlib import Path

    from rtok.config.ready import named
    from rtok.errors import UserError
    from rtok.files import write_atomic

    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {out} is a file; it takes a folder.")
    ready = named(name).items()
    copies = {folder / f"{full.removeprefix('protocols/').replace('/', '-')}.yaml": text for full, text in ready}
    for target in copies:
        if target.exists() and not overwrite:
            raise UserError(f"'{target}' already exists: replace it with --overwrite, or choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target, text in copies.items():
            write_atomic(target, text)
            typer.echo(f"wrote {target}")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}. Choose another folder with --out.") from error


def listing() -> str:
    """Return every ready config, with the first line of its comment."""
    from rtok.config.ready import all_ready

    ready = all_ready()
    width = max(map(len, ready))
    about = {name: text.partition("\n")[0].lstrip("# ") for name, text in ready.items()}
    return "\n".join(f"{name:<{width}}  {line}" for name, line in about.items())
