"""The `rtok` command: which sub-commands there are, and how failures become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rtok.cli import configs, convert, inspect, models, prepare_imagenet, report
from rtok.cli.command import add_run_command
from rtok.cli.runs import COMMANDS
from rtok.errors import UserError, printable
from rtok.version import __version__

WRONG_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _Group(TyperGroup):
    """Turns the user's mistakes and Ctrl-C into one message; other exceptions keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print("\n".join(map(printable, f"error: {error}".split("\n"))), file=sys.stderr)
            raise typer.Exit(WRONG_INPUT) from None
        except KeyboardInterrupt:
            print(f"interrupted{_how_to_continue()}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def _how_to_continue() -> str:
    if not any(argument.startswith("--config") for argument in sys.argv):
        return ""
    return ": the same command with --resume (and without --overwrite) continues from the last saved state"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rtok {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """Return the application with all its commands."""
    app = typer.Typer(
        cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )

    @app.callback()
    def rtok(
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
        ] = False,
    ) -> None:
        """Make public Vision Transformers harder to attack without touching their weights."""

    for name, command in COMMANDS.items():
        add_run_command(app, name, command)
    app.command("convert")(convert.convert)
    app.command("report")(report.report)
    app.command("inspect")(inspect.inspect)
    app.command("prepare-imagenet")(prepare_imagenet.prepare_imagenet)
    app.command("models")(models.models)
    app.add_typer(configs.build(), name="configs")
    return app


def main() -> None:
    """Run the command line; never returns."""
    build()(prog_name="rtok")
