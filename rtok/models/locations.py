"""Where files can lie but at a path: in a folder (`local-dir:PATH`), on the Hugging Face hub (`hf:USER/REPO`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rtok.errors import UserError, some
from rtok.files import where
from rtok.models.downloads import NAMES, check_file

HUB, FOLDER = "hf-hub:", "local-dir:"
SHORT = "hf:"  # the same as HUB, which is timm's
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_PLACE = re.compile(
    r"(?:hf|hf-hub):(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[^@:]+))?(?::(?P<file>[^:]+))?", re.ASCII
)


@dataclass(frozen=True)
class OnHub:
    """A place on the hub: `hf:USER/REPO[@REVISION][:FILE]`.

    Attributes:
        repository: USER/REPO.
        revision: a branch, a tag or a commit; None for the main branch.
        file: its path in the repository; "" for the repository.
    """

    repository: str
    revision: str | None = None
    file: str = ""

    @classmethod
    def parse(cls, text: str) -> OnHub:
        """Read a place.

        Raises:
            UserError: it is not written as one.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            prefix = HUB if text.startswith(HUB) else SHORT
            raise UserError(f"{text} is not a place on the hub: write {prefix}USER/REPO, or {prefix}USER/REPO:FILE.")
        return cls(found["repository"], found["revision"], found["file"] or "")

    def __str__(self) -> str:
        revision, file = self.revision and f"@{self.revision}", self.file and f":{self.file}"
        return f"{SHORT}{self.repository}{revision or ''}{file}"


def is_on_hub(place: str | Path) -> bool:
    """Whether something is named by a place on the hub."""
    return str(place).startswith((HUB, SHORT))


def is_location(weights: str | Path) -> bool:
    """Whether weights are named by a place, and not by `pretrained` or a file."""
    return is_on_hub(weights) or str(weights).startswith(FOLDER)


def check_location(weights: str) -> None:
    """Raise a UserError unless a place is written as `hf-hub:USER/REPO[@REVISION][:FILE]` or `local-dir:PATH`."""
    if is_on_hub(weights):
        OnHub.parse(weights)
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
    return _downloaded(OnHub.parse(str(weights))) if present is None else present


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
        return _cached(OnHub.parse(str(weights)))
    if not folder.is_dir():
        raise UserError(f"{weights}: there is no folder {folder}{where(folder)}.")
    return folder / _chosen([path.name for path in folder.iterdir() if path.is_file()], str(weights))


def _cached(place: OnHub) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in [place.file] if place.file else NAMES:
        found = try_to_load_from_cache(place.repository, name, revision=place.revision)
        if isinstance(found, str):
            check_file(Path(found), name, place.repository)
            return Path(found)
    return None


def _downloaded(place: OnHub) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files

    repository, revision = place.repository, place.revision
    try:
        name = place.file or _chosen(list_repo_files(repository, revision=revision), f"{HUB}{repository}")
        found = Path(hf_hub_download(repository, name, revision=revision))
    except UserError:
        raise
    except Exception as error:  # downloads fail in many ways
        raise UserError(f"{HUB}{repository} {not_downloaded(error)} {fetch(place)}") from error
    check_file(found, name, repository)
    return found


def not_downloaded(error: Exception) -> str:
    """Return what to say of a failed download, after the name of the place."""
    return f"could not be downloaded ({type(error).__name__}: {reason(error)})."


def reason(error: Exception) -> str:
    """Return the first line of an error's message: the hub's client adds requests and advice."""
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


def fetch(place: OnHub, then: str = "set model.weights: {}") -> str:
    """Return how to get a place of the hub onto a machine without a connection, as a sentence.

    Args:
        then: what to do with the file or folder.
    """
    words = [place.repository, place.file, place.revision and f"--revision {place.revision}", "--local-dir DIR"]
    local = f"DIR/{place.file}" if place.file else f"{FOLDER}DIR"
    download = f"`hf download {' '.join(filter(None, words))}`"
    return f"Without a connection, run {download} where there is one, and {then.format(local)}."


def _chosen(names: Iterable[str], place: str) -> str:
    """Return the file of weights among these: one with a usual name, or else the only one with a usual suffix."""
    there = sorted(name for name in names if name.endswith(_SUFFIXES))
    usual = [name for name in NAMES if name in there]
    if not usual and len(there) != 1:
        holds = f"several files of weights ({some(there)})" if there else f"no file of weights ({', '.join(_SUFFIXES)})"
        raise UserError(f"{place} has {holds}: name one.")
    return usual[0] if usual else there[0]
