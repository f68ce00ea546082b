"""Where the pictures in a tar file lie, to read each alone: found once, and kept in the user's cache folder."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rtok.data.decoding import EXTENSIONS
from rtok.errors import UserError
from rtok.files import write_json

_VERSION = 1  # of the kept index
_LONGEST_LABEL = 20  # digits, more than any number of classes has


@dataclass(frozen=True)
class Shard:
    """The pictures in a tar file.

    Attributes:
        names: the members' names.
        offsets, sizes: in bytes: where in the file each picture lies.
        labels: the number in the `.cls` member of the same sample, where there is one.
        others: how many members are neither pictures nor labels, by suffix.
    """

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[int | None]
    others: dict[str, int]


def index_shard(path: Path) -> Shard:
    """Return what a tar file holds, from the index that was kept of it if the file has not changed since.

    Raises:
        UserError: it cannot be read, is not an uncompressed tar file, or has a label that is not a number.
    """
    try:
        about = path.stat()
        state = {"version": _VERSION, "path": str(path.resolve()), "size": about.st_size, "time": about.st_mtime_ns}
        kept = _cache_folder() / f"{sha256(str(state['path']).encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or not one of ours
            return _kept(json.loads(kept.read_bytes()), state)
        shard = _scan(path)
    except tarfile.TarError as error:
        raise UserError(f"data.root: {path} is not an uncompressed tar file ({error}): unpack it if it is.") from error
    except OSError as error:
        raise UserError(f"data.root: {path} cannot be read: {error.strerror or error}.") from error
    with suppress(OSError):  # without a cache the next run looks again
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {**state, **asdict(shard)})
    return shard


def sample_of(name: str) -> tuple[str, str]:
    """Divide a member's name into its sample's and the suffix, at the first dot of the file, as WebDataset does."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _scan(path: Path) -> Shard:
    pictures: list[tuple[str, int, int]] = []
    labels: dict[str, int] = {}
    others: Counter[str] = Counter()
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            sample, suffix = sample_of(name)
            # What begins with a dot is the computer's own, such as the `._x.jpg` of macOS.
            if not member.isreg() or name.rpartition("/")[2].startswith("."):
                continue
            if f".{suffix}" in EXTENSIONS:
                pictures.append((name, member.offset_data, member.size))
            elif suffix == "cls":
                labels[sample] = _label(archive, member, path)
            else:
                others[f".{suffix}" if suffix else "without suffix"] += 1
            archive.members = []  # type: ignore[attr-defined]  # it would keep every member
    return Shard(
        [name for name, _, _ in pictures],
        [offset for _, offset, _ in pictures],
        [size for _, _, size in pictures],
        [labels.get(sample_of(name)[0]) for name, _, _ in pictures],
        dict(others),
    )


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    stream = archive.extractfile(member)
    text = stream.read(_LONGEST_LABEL).decode("ascii", "replace").strip() if stream else ""
    if not text.isdecimal():
        raise UserError(f"data.root: {member.name} in {path} holds {text!r}: a label is a number, 0 or more.")
    return int(text)


def _kept(index: dict[str, Any], state: dict[str, Any]) -> Shard:
    if any(index.pop(key) != value for key, value in state.items()):
        raise ValueError("the file has changed")
    return Shard(**index)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rtok", "shards")
