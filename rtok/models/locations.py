"""Where weights can lie but in a named file: in a folder (`local-dir:PATH`), on the Hugging Face hub (`hf-hub:...`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rtok.errors import UserError, some
from rtok.files import where
from rtok.models.downloads import NAMES, check_file

HUB, FOLDER = "hf-hub:", "local-dir:"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def is_location(weights: str | Path) -> bool:
    """Whether weights are named by a place, and not by `pretrained` or a file."""
    return str(weights).startswith((HUB, FOLDER))


def check_location(weights: str) -> None:
    """Raise a UserError unless a place is written as `hf-hub:USER/REPO[:FILE]` or `local-dir:PATH`."""
    parts = weights.removeprefix(HUB).partition(":")[0].split("/")
    if weights.startswith(HUB) and (len(parts) != 2 or not all(parts)):
        raise UserError(f"{weights} is not a place on the hub: write {HUB}USER/REPO, or {HUB}USER/REPO:FILE.")
    if weights == FOLDER:
        raise UserError(f"{weights} names no folder: write {FOLDER}PATH.")


def folder_of(weights: str | Path) -> Path | None:
    """Return the folder that `local-dir:PATH` names; None for other weights."""
    text = str(weights)
    return Path(text.removeprefix(FOLDER)).expanduser() if text.startswith(FOLDER) else None


def local_file(weights: str | Path) -> Path:
    """Return the file that weights lie in: a path as it is, the one in a folder, or one of the hub, downloaded once.

    Raises:
        UserError: there is no such folder or repository, none or several such files in it, or no connection.
    """
    present = present_file(weights)
    return _downloaded(*_of_hub(weights)) if present is None else present


def present_file(weights: str | Path) -> Path | None:
    """Return what `local_file` does, or None for a file of the hub that was not downloaded yet.

    Raises:
        UserError: there is no such folder, or none or several such files in it.
    """
    if not is_location(weights):
        return Path(weights)
    check_location(str(weights))
    folder = folder_of(weights)
    if folder is None:
        return _cached(*_of_hub(weights))
    if not folder.is_dir():
        raise UserError(f"{weights}: there is no folder {folder}{where(folder)}.")
    return folder / _chosen([path.name for path in folder.iterdir() if path.is_file()], str(weights))


def _of_hub(weights: str | Path) -> tuple[str, str]:
    """Return the repository and the name of the file, "" where it is not named."""
    repository, _, file = str(weights).removeprefix(HUB).partition(":")
    return repository, file


def _cached(repository: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in [file] if file else NAMES:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            check_file(Path(found), name, repository)
            return Path(found)
    return None


def _downloaded(repository: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files

    try:
        name = file or _chosen(list_repo_files(repository), f"{HUB}{repository}")
        found = Path(hf_hub_download(repository, name))
    except UserError:
        raise
    except Exception as error:  # downloads fail in many ways
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"{HUB}{repository} could not be downloaded ({type(error).__name__}: {reason}). {fetch(repository, file)}"
        ) from error
    check_file(found, name, repository)
    return found


def fetch(repository: str, file: str = "") -> str:
    """Return how to get a repository of the hub onto a machine without a connection, as a sentence."""
    one = f" {file}" if file else ""
    place = f"DIR/{file}" if file else f"{FOLDER}DIR"
    return (
        f"Without a connection, run `hf download {repository}{one} --local-dir DIR` where there is one, and set "
        f"model.weights: {place}."
    )


def _chosen(names: Iterable[str], place: str) -> str:
    """Return the file of weights among these: one with a usual name, or else the only one with a usual suffix."""
    there = sorted(name for name in names if name.endswith(_SUFFIXES))
    usual = [name for name in NAMES if name in there]
    if not usual and len(there) != 1:
        holds = f"several files of weights ({some(there)})" if there else f"no file of weights ({', '.join(_SUFFIXES)})"
        raise UserError(f"{place} has {holds}: name one.")
    return usual[0] if usual else there[0]
