"""What a run reads, each input with its identity: a resumed run refuses inputs that have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from rtok.config.named_files import named_files
from rtok.data.source import ImageSource
from rtok.defenses import defense_files
from rtok.defenses.hub import local_file
from rtok.errors import UserError
from rtok.files import sha256_of
from rtok.setup import Setup
from rtok.version import __version__

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone

Inputs = dict[str, str]
_DEFENSES = ("defense", "guessed", "surrogate.defense")


def inputs_of(
    setup: Setup,
    *,
    surrogate: Backbone | None = None,
    split: ImageSource | None = None,
    queried: ImageSource | None = None,
) -> Inputs:
    """Return the identity of everything a run reads, by what it is.

    Defenses and heads have the SHA-256 of their file, the weights their fingerprint, and the images a digest of keys,
    labels, sizes and times; with `data.verify: bytes` of their content.

    Args:
        surrogate: the model that transfer attacks are crafted on.
        split: the images that heads are fitted on.
        queried: the images that an attacker asks about.

    Raises:
        UserError: a file cannot be read.
    """
    config, whole = setup.config, setup.config.data.verify == "bytes"
    found = {"rtok": __version__, f"weights of {config.model.name}": setup.backbone.fingerprint()}
    if config.precision == "auto":  # decided by the machine
        found["gradients of attacks"] = "bf16" if setup.compute.half_gradients else "fp32"
    if surrogate is not None and surrogate is not setup.backbone:
        found["weights of the surrogate"] = surrogate.fingerprint()
    found["images"] = images_identity(setup.source, whole=whole)
    if split is not None:
        found["images of head.split"] = images_identity(split, whole=whole)
    if queried is not None:
        found["images of extracted"] = images_identity(queried, whole=whole)
    for key, path in named_files(config):
        if key in (*_DEFENSES, "head.path", "surrogate.head", "attack.from"):
            found |= {f"{key} {file}": _hash_file(file) for file in _files(key, path)}
    return found


def images_identity(source: ImageSource, *, whole: bool = False) -> str:
    """Return the number of images and a digest of their keys, labels and files, in order.

    Args:
        whole: read the files instead of their sizes and times.
    """
    digest = hashlib.sha256(getattr(source, "fingerprint", "").encode())  # of images that are in no file
    for file in getattr(source, "containers", ()):  # files with many images each
        digest.update((_hash_file(Path(file)) if whole else _stamp(file)).encode())
    paths, labels = getattr(source, "paths", None), source.labels
    # A listing of a million images is faster to go through than to ask one by one.
    for key, label in zip(source.keys, repeat(None) if labels is None else labels, strict=False):
        stamps = [] if paths is None else [_hash_file(Path(f)) if whole else _stamp(f) for f in paths(key)]
        digest.update("\0".join([key, str(label), *stamps, ""]).encode("utf-8", "surrogatepass"))
    return f"{len(source)} images, {digest.hexdigest()[:16]}"


def require_same(before: Mapping[str, str], now: Mapping[str, str], folder: Path, images: str = "") -> None:
    """Refuse to resume a run in `folder` whose inputs are not those it began with.

    Args:
        images: which images are others, in words.

    Raises:
        UserError: naming every input that has changed.
    """
    changed = [
        f"{what} ({before.get(what, 'none')} then, {now.get(what, 'none')} now)"
        for what in dict.fromkeys([*before, *now])
        if before.get(what) != now.get(what)
    ]
    if changed:
        raise UserError(
            f"the inputs of the run in {folder} have changed since it began: {'; '.join(changed)}{images}. Its results "
            "would mix both: put back what was there, or start again with --overwrite."
        )


def other_images(before: Sequence[str], now: Sequence[str]) -> str:
    """Say how many of the keys are new and how many gone, with an example of each; "" where none is."""
    new, gone = sorted({*now} - {*before}), sorted({*before} - {*now})
    parts = [f"{len(keys)} {how} ({keys[0]} for one)" for keys, how in ((new, "new"), (gone, "gone now")) if keys]
    return f"; other images: {', '.join(parts)}" if parts else ""


def _files(key: str, path: Path) -> Iterator[Path]:
    if key in _DEFENSES:
        yield from defense_files(path)
    elif key == "attack.from":
        yield from (path / "attack.json", path / "manifest.csv")
    else:
        yield path


def _hash_file(path: Path) -> str:
    try:
        return f"sha256 {sha256_of(local_file(path))[:16]}"
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _stamp(path: str) -> str:
    """Return a file's size and time; a missing file is found out when it is read."""
    try:
        about = os.stat(path)
    except OSError:
        return "missing"
    return f"{about.st_size} bytes of {about.st_mtime_ns}"
