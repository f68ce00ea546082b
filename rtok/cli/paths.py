"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path

from rtok.errors import UserError


def user_path(text: str) -> Path:
    """Return the path, with `~` expanded where the shell did not (`--out=~/x`).

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text}: there is no user of this name: write the whole path.") from None
