"""What the commands that run a config share: their options, and what happens before a run."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtok.cli import completion
from rtok.cli.paths import user_path
from rtok.cli.runs import COMMANDS
from rtok.cli.shortcuts import Shortcuts
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.config import Config
    from rtok.plugins import Plugin

Verbose = Annotated[bool, typer.Option("--verbose", help="Show the messages of libraries.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


@dataclass(frozen=True)
class Options:
    """How to run; the command line and the plugin files are for the run's record."""

    resume: bool
    overwrite: bool
    command: Sequence[str]
    plugins: Sequence[Plugin] = ()


def add_run_command(app: typer.Typer, name: str, about: str) -> None:
    """Add a command that reads a config and runs it."""

    def command(
        config: Annotated[
            str | None,
            typer.Option(
                metavar="FILE",
                help="The config: a YAML file, or a ready config's name.",
                autocompletion=completion.ready,
            ),
        ] = None,
        model: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="The backbone, as `rtok models` lists it: model.name.",
                autocompletion=completion.models,
            ),
        ] = None,
        weights: Annotated[
            str | None, typer.Option(metavar="FILE", help="Its weights, a file or hf-hub:USER/REPO: model.weights.")
        ] = None,
        data: Annotated[str | None, typer.Option(metavar="FOLDER", help="A folder of images: data.root.")] = None,
        defense: Annotated[
            list[str] | None,
            typer.Option(
                metavar="RUN",
                help="A file or run folder of `rtok train`, or hf:USER/REPO; for train, a kind. Repeatable.",
            ),
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="KEY=VALUE",
                help="Change a key, such as train.steps=20. Repeatable.",
                autocompletion=completion.override,
            ),
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
        verbose: Verbose = False,
        quiet: Quiet = False,
    ) -> None:
        from rtok.config import load_config
        from rtok.plugins import load_plugins

        if resume and overwrite:
            raise UserError("--resume and --overwrite exclude each other: choose one of them.")
        if config is None and model is None:
            raise UserError(_no_config(name))
        plugins = load_plugins(plugin)
        flags = Shortcuts(model, weights, data, defense or ())
        with flags.named_in_errors(only_given=config is not None):
            changes = [*flags.overrides(name), *(overrides or ())]
            loaded = load_config(name, config, changes, out, files_must_exist=True)
            _volume(verbose, quiet)
            if dry_run:
                from rtok.cli.dry_run import dry_run as check

                typer.echo(check(loaded, name, resume=resume, overwrite=overwrite), nl=False)
                return
            _run(name, loaded, Options(resume, overwrite, ("rtok", *sys.argv[1:]), plugins))

    app.command(name, help=about)(command)


def resume(
    run: Annotated[Path, typer.Argument(parser=user_path, metavar="RUN", help="The folder of a run that was stopped.")],
    plugin: Annotated[
        list[Path] | None,
        typer.Option(parser=user_path, metavar="FILE.py", help="A plugin that the run was started with. Repeatable."),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was stopped, from its folder alone."""
    from rtok.plugins import load_plugins
    from rtok.runs.resume import command_of

    plugins = load_plugins(plugin)
    _volume(verbose, quiet)
    name, config = command_of(run, [plugin.path.name for plugin in plugins])
    # Recorded under the command's own name: a run that is stopped again must be found again.
    _run(name, config, Options(True, False, ("rtok", name, "--resume", "--out", str(run)), plugins))


def _run(name: str, config: Config, options: Options) -> None:
    from rtok.config.rules import unused
    from rtok.console import say

    if not options.resume and (idle := unused(config, name)):
        say(f"{name} does not use {', '.join(idle)}")
    COMMANDS[name].run(config, options)


def _volume(verbose: bool, quiet: bool) -> None:
    """Keep libraries quiet unless their messages are wanted; what rtok itself warns of is shown, or only errors."""
    from rtok.console import hush

    if verbose and quiet:
        raise UserError("--verbose and --quiet exclude each other: choose one of them.")
    hush(quiet)
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
    own = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("rtok").setLevel(own)
    if not verbose:
        warnings.simplefilter("ignore")


def _no_config(command: str) -> str:
    from rtok.config.ready import ready_configs

    ready = ", ".join(ready_configs(command))
    either = "pass --model NAME and --data FOLDER, or --config FILE"
    return f"no config was given: {either}" + (f", or a ready one: {ready}." if ready else ".")
