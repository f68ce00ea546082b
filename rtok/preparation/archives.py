"""Unpack the official archives of ImageNet into class folders.

A folder gets its name only when it is complete. Until then it is called `.NAME.partial`, and files in it that have
their full size are not unpacked again. So an interrupted run continues where it stopped, and a folder that exists
already (whoever made it) is left alone.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from rtok.console import progress, say
from rtok.data.imagenet_layout import WORDNET_ID, Split
from rtok.errors import UserError
from rtok.preparation.devkit import DEVKIT, validation_classes

ARCHIVES = {
    "train": ("ILSVRC2012_img_train.tar",),
    "val": ("ILSVRC2012_img_val.tar",),
    "test": ("ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_test.tar"),
}


def unpack_archives(archives: Path, root: Path, splits: Sequence[Split], *, dry_run: bool = False) -> None:
    """Unpack the archives of `splits` that the folder `archives` holds into `root`.

    Raises:
        UserError: no archive for any of the splits, no devkit beside the validation images, or an archive that is
            damaged or not ImageNet's.
    """
    candidates = [(split.name, archives / name) for split in splits for name in ARCHIVES[split.name]]
    found = {name: path for name, path in reversed(candidates) if path.is_file()}
    if not found:
        names = ", ".join(ARCHIVES[split.name][0] for split in splits)
        raise UserError(f"--archives: {archives} does not hold {names}. Give the folder of the downloads.")
    open_val = "val" in found and not (root / "val").exists()
    if open_val and not (archives / DEVKIT).is_file():
        raise UserError(f"--archives: unpacking {found['val'].name} needs {DEVKIT} in {archives} too.")
    # Before anything is written, because the devkit may be damaged.
    wnids = validation_classes(archives / DEVKIT) if open_val else []
    for split in splits:
        if split.name not in found:
            continue
        if dry_run:
            say(f"{split.name}: would unpack what is not there yet from {found[split.name]}")
        elif split.name == "train":
            _unpack_train(found["train"], root / "train", split)
        elif not (root / split.name).exists():
            _unpack_flat(found[split.name], root / split.name, split, wnids if split.labeled else [])


def _unpack_train(path: Path, train: Path, split: Split) -> None:
    """Unpack the archive that holds one archive per class, such as `n01440764.tar`."""
    with _open(path) as outer:
        entries = list(_entries(outer))
        with progress("unpack train", len(entries), unit="folder") as bar:
            for entry in entries:
                wnid = PurePosixPath(entry.name).name.removesuffix(".tar")
                file = outer.extractfile(entry) if entry.isreg() else None
                if file is None or not WORDNET_ID.fullmatch(wnid):
                    raise _foreign(path, entry)
                if not (train / wnid).exists():
                    with _open(path, file) as inner:
                        _unpack(inner, path, train / wnid, split, wnid)
                bar.advance()


def _unpack_flat(path: Path, folder: Path, split: Split, wnids: Sequence[str]) -> None:
    """Unpack an archive of images: those of `val` into class folders, those of `test` side by side."""
    with _open(path) as archive, progress(f"unpack {split.name}", len(wnids) or None, unit="image") as bar:
        _unpack(archive, path, folder, split, wnids=wnids, after=bar.advance)


def _unpack(
    archive: tarfile.TarFile,
    path: Path,
    folder: Path,
    split: Split,
    wnid: str = "",
    wnids: Sequence[str] = (),
    after: Callable[[], None] = lambda: None,
) -> None:
    """Unpack image by image, into a folder per class where `wnids` has the class of every number.

    Only the last part of an entry's path is used, and only if it is exactly the name of an image. So no archive can
    write outside the folder or create a link.
    """
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir(parents=True, exist_ok=True)
    for entry in _entries(archive):
        name = PurePosixPath(entry.name).name
        file, number = archive.extractfile(entry) if entry.isreg() else None, split.number(wnid, name)
        if number is None or file is None:
            raise _foreign(path, entry)
        if wnids and not 1 <= number <= len(wnids):
            raise UserError(f"--archives: the devkit has ground truth for {len(wnids):,} images, not for {name}.")
        target = (unfinished / wnids[number - 1] if wnids else unfinished) / name
        if not (target.exists() and target.stat().st_size == entry.size):
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(file, out)
        after()
    unfinished.rename(folder)


def _entries(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield all entries except folders. Unlike tarfile, refuse an archive that is cut off between two entries."""
    yield from (entry for entry in archive if not entry.isdir())
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("unexpected end of data")


@contextmanager
def _open(path: Path, file: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    """Open an uncompressed archive, or `file`, an archive inside it; damage becomes a UserError."""
    try:
        with tarfile.open(path, "r:", fileobj=file) as archive:
            yield archive
    except tarfile.TarError as error:
        raise UserError(f"--archives: {path} is damaged: {error}. Download it again.") from error


def _foreign(path: Path, entry: tarfile.TarInfo) -> UserError:
    return UserError(f"--archives: {path} is not the official archive: it holds '{entry.name}'.")
