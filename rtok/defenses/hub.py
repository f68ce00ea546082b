"""Defenses on the Hugging Face hub, `hf:USER/REPO[@REVISION][:FILE]`: downloaded once, then read from its cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from rtok.errors import UserError
from rtok.models.downloads import check_file
from rtok.models.locations import OnHub, fetch, is_on_hub, not_downloaded

_THEN = "give DIR instead"


def local_file(file: Path) -> Path:
    """Return where a defense's file lies on this machine: the path itself, or that of the hub's cache.

    Raises:
        UserError: a file of the hub can neither be downloaded nor found in the cache.
    """
    if not is_on_hub(file):
        return file
    place = OnHub.parse(str(file))
    found = _snapshot(place, (place.file,)) / place.file
    if not found.is_file():
        raise UserError(f"{place} is not there: {replace(place, file='')} holds no such file.")
    check_file(found, place.file, place.repository)
    return found


def files_on_hub(path: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """Return the files at the top of a repository that match, or the one that the place names: local path by place.

    Raises:
        UserError: it holds none, or cannot be reached and is not in the cache.
    """
    place = OnHub.parse(str(path))
    if place.file:
        return {str(place): local_file(path)}
    folder = _snapshot(place, tuple(patterns))
    found = {str(replace(place, file=file.name)): file for pattern in patterns for file in folder.glob(pattern)}
    if not found:
        raise UserError(
            f"{place} holds no defense ({', '.join(patterns)}): it was pushed without --with-tokens or --with-weights, "
            "or others made it. Its owner may give you the file."
        )
    return found


@cache  # so that a run asks once, and reads one revision to its end
def _snapshot(place: OnHub, patterns: tuple[str, ...]) -> Path:
    """Return the folder of the cache with these files of a repository."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(place.repository, revision=place.revision, allow_patterns=list(patterns)))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{place}: the hub has no such repository, or none that you may read: check its name; if it is private or "
            "gated, run `hf auth login` first."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{place}: the repository has no revision '{place.revision}'.") from error
    except Exception as error:  # downloads fail in many ways
        raise UserError(f"{place} {not_downloaded(error)} {fetch(place, _THEN)}") from error
