"""The `rtok` command: which sub-commands there are, and how failures become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rtok.cli import configs, convert, doctor, inspect, models, prepare_imagenet, push, report
from rtok.cli.command import add_run_command, resume
from rtok.cli.runs import COMMANDS
from rtok.errors import UserError, printable
from rtok.version import __version__

WRONG_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _PlainFlags(TyperGroup):
    """Shows no type of value for flags, its own and its commands'."""

    def get_params(self, ctx: Any) -> Any:
        return _plain(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _plain(command.get_params(ctx))
        return command


def _plain(options: list[Any]) -> list[Any]:
    for option in options:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    return options


class _Group(_PlainFlags):
    """Turns the user's mistakes and Ctrl-C into one message; other exceptions keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print("\n".join(map(printable, f"error: {error}".split("\n"))), file=sys.stderr)
            raise typer.Exit(WRONG_INPUT) from None
        except KeyboardInterrupt as interrupt:
            from rtok.console import is_main_process

            if is_main_process():  # a run says what it has saved
                print(f"interrupted{f': {interrupt}' if interrupt.args else ''}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rtok {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """Return the application with all its commands."""
    app = typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
    )

    @app.callback()
    def rtok(
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
        ] = False,
    ) -> None:
        """Make public Vision Transformers harder to attack without touching their weights."""

    for name, command in COMMANDS.items():
        add_run_command(app, name, command.about)
    app.command("convert")(convert.convert)
    app.command("report")(report.report)
    app.command("push")(push.push)
    app.command("inspect")(inspect.inspect)
    app.command("prepare-imagenet")(prepare_imagenet.prepare_imagenet)
    app.command("models")(models.models)
    app.command("doctor")(doctor.doctor)
    app.command("resume")(resume)
    app.add_typer(configs.build(), name="configs", cls=_PlainFlags)
    return app


def main() -> None:
    """Run the command line; never returns."""
    build()(prog_name="rtok")
