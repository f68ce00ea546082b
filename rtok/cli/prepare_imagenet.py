"""`rtok prepare-imagenet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare_imagenet(
    root: Annotated[Path, typer.Option(metavar="DIR", help="The folder with train, val and test.")],
    extra: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder for DINOv2's extra files. Default: the root.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The classes, one wnid,name per line. Default: labels.txt in the root, else ImageNet's.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(metavar="train|val|test|all", help="The split to prepare.")] = "all",
    archives: Annotated[
        Path | None, typer.Option(metavar="DIR", help="First unpack the official archives in this folder.")
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Accept an incomplete data set: use what is valid.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything but write nothing.")] = False,
) -> None:
    """Check ImageNet, unpack its archives, and write the files that DINOv2's reader needs."""
    from rtok.preparation import prepare_imagenet

    prepare_imagenet(
        root, extra=extra, labels=labels, split=split, archives=archives, allow_partial=allow_partial, dry_run=dry_run
    )
