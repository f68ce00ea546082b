"""`rtok push`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtok.cli.paths import user_path

if TYPE_CHECKING:
    from rtok.sharing import Pushed


def push(
    run: Annotated[
        Path,
        typer.Argument(
            parser=user_path, metavar="RUN", help="The folder of a finished evaluation, or of a training (see below)."
        ),
    ],
    to: Annotated[str, typer.Option(metavar="hf:USER/REPO", help="The repository; it is made if it is not there.")],
    with_tokens: Annotated[
        bool, typer.Option("--with-tokens", help="Publish private defenses (tokens) too, which gives them away.")
    ] = False,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="Publish a LoRA or fine-tuned weights too.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder that would be uploaded, and upload nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="DIR",
            help="The folder to write. Default: results/push-USER-REPO for --dry-run, else a temporary one.",
        ),
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(parser=user_path, metavar="FILE.py", help="A plugin that the run was made with. Repeatable."),
    ] = None,
) -> None:
    """Publish a run on the Hugging Face hub: a model card and results; the defense itself only if you say so.

    A training has no results: its defense is published with --with-tokens or --with-weights.
    """
    from rtok.plugins import load_plugins
    from rtok.sharing import push

    load_plugins(plugin)
    done = push(run, to, with_tokens=with_tokens, with_weights=with_weights, private=private, dry_run=dry_run, out=out)
    typer.echo(summary(done))


def summary(done: Pushed) -> str:
    """Say what was published and what was not."""
    lines = [f"{'uploaded' if done.url else 'wrote'} {', '.join(done.files)}"]
    for one in done.defenses:
        if not one.given:
            flags = " ".join(sorted(one.needs)) or "its file is not there any more"
            lines.append(f"not published: {one.name} ({flags})")
        elif one.defense is not None and one.defense.private:
            lines.append(f"published: {one.name}, which is no longer private: whoever reads it can attack through it")
    return "\n".join([*lines, done.url or f"nothing was uploaded: look at {done.folder}/README.md"])
