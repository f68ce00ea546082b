"""What the commands that run a config share: their options, and what happens before a run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.cli.runs import RunCommand
    from rtok.plugins import Plugin


@dataclass(frozen=True)
class Options:
    """How to run; the command line and the plugin files are for the run's record."""

    resume: bool
    overwrite: bool
    command: Sequence[str]
    plugins: Sequence[Plugin] = ()


def add_run_command(app: typer.Typer, name: str, runs: RunCommand) -> None:
    """Add a command that reads a config and runs it."""

    def command(
        config: Annotated[
            str | None, typer.Option(metavar="FILE", help="The config: a YAML file, or a ready config's name.")
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Change a key, such as train.steps=20. Repeatable."),
        ] = None,
        plugin: Annotated[
            list[str] | None,
            typer.Option(
                metavar="FILE.py", help="Run a Python file that registers attacks, data sets, ... Repeatable."
            ),
        ] = None,
        out: Annotated[str | None, typer.Option(metavar="DIR", help="The run's folder.")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Check everything, print the config and the plan, write nothing.")
        ] = False,
        verbose: Annotated[bool, typer.Option("--verbose", help="Show the messages of libraries.")] = False,
    ) -> None:
        from rtok.config import load_config
        from rtok.config.rules import unused
        from rtok.console import say
        from rtok.plugins import load_installed, load_plugin

        if resume and overwrite:
            raise UserError("--resume and --overwrite exclude each other: choose one of them.")
        if config is None:
            raise UserError(_no_config(name))
        load_installed()
        plugins = [load_plugin(file) for file in plugin or ()]
        loaded = load_config(name, config, overrides or (), out, files_must_exist=True)
        logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
        if dry_run:
            from rtok.cli.dry_run import dry_run as check

            typer.echo(check(loaded, name, resume=resume, overwrite=overwrite), nl=False)
            return
        if idle := unused(loaded, name):
            say(f"{name} does not use {', '.join(idle)}")
        runs.run(loaded, Options(resume, overwrite, ("rtok", *sys.argv[1:]), plugins))

    app.command(name, help=runs.about)(command)


def _no_config(command: str) -> str:
    from rtok.config.ready import ready_configs

    ready = ", ".join(ready_configs(command))
    return "no config was given: pass --config FILE" + (f", or a ready one: {ready}." if ready else ".")
