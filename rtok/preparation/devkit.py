"""ImageNet's development kit, which has the class of each validation image."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtok.data.imagenet_layout import WORDNET_ID
from rtok.errors import UserError

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_SYNSETS = "data/meta.mat"


def validation_classes(devkit: Path) -> Sequence[str]:
    """Return the WordNet ids of the validation images 1, 2, ..., read from the devkit's archive.

    The ground truth has one number per line: the ILSVRC2012_ID of a synset in `meta.mat` (1 to 1000 for the classes,
    higher for their hypernyms). It is not the class index.

    Raises:
        UserError: the archive is not the devkit, or its two files do not match.
    """
    truth, synsets = _read(devkit, _TRUTH), _read(devkit, _SYNSETS)
    try:
        wnids = _wnids(synsets)
        return [wnids[int(line)] for line in truth.split()]
    except Exception as error:  # scipy raises almost any type on a damaged file
        raise UserError(
            f"--archives: {_TRUTH} and {_SYNSETS} in {devkit} are not those of the official devkit "
            f"({type(error).__name__}: {error}). Download it again."
        ) from error


def _read(devkit: Path, name: str) -> bytes:
    try:
        with tarfile.open(devkit, "r:gz") as archive:
            for entry in archive:
                if entry.name.endswith(f"/{name}") and (file := archive.extractfile(entry)):
                    return file.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(f"--archives: cannot read {devkit}: {error}. Download it again.") from error
    raise UserError(f"--archives: {devkit} has no {name}; it is not the official devkit. Download it again.")


def _wnids(synsets: bytes) -> dict[int, str]:
    from scipy.io import loadmat

    table: Any = loadmat(io.BytesIO(synsets), squeeze_me=True)["synsets"]
    wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
    if not all(WORDNET_ID.fullmatch(wnid) for wnid in wnids.values()):
        raise ValueError("a WNID is not like n01440764")
    return wnids
