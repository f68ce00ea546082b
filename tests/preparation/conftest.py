"""Small ImageNets: folders, archives and a devkit."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from rtok.data.imagenet_layout import Split
from rtok.preparation import imagenet

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


@pytest.fixture
def picture() -> Callable[[int], bytes]:
    """Make a small JPEG, another one for each number."""

    def make(number: int) -> bytes:
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        return buffer.getvalue()

    return make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a data set is to be."""
    return tmp_path / "imagenet"


@pytest.fixture
def write_tree(root: Path, picture: Callable[[int], bytes]) -> Callable[..., None]:
    """Write one differing picture under each given path below the root."""

    def write(*paths: str) -> None:
        for number, path in enumerate(paths):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(picture(number))

    return write


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A labels file of three classes, not in their order."""
    path = tmp_path / "three.txt"
    path.write_text(f"{SHARK},great_white_shark\n{TENCH},tench\n{GOLDFISH},goldfish\n")
    return path


@pytest.fixture
def small_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the whole ImageNet six training, three validation and two test images."""
    sizes = {"train": 6, "val": 3, "test": 2}
    splits = {name: Split(name, size, labeled=name != "test") for name, size in sizes.items()}
    monkeypatch.setattr(imagenet, "SPLITS", splits)


@pytest.fixture
def write_tar() -> Callable[..., Path]:
    """Write an archive of files; a content that is text is where a link points, one of None a folder."""

    def write(path: Path, files: Mapping[str, bytes | str | None], mode: str = "w") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                if isinstance(content, bytes):
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
                    continue
                info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
                info.linkname = content or ""
                archive.addfile(info)
        return path

    return write


@pytest.fixture
def write_devkit(write_tar: Callable[..., Path]) -> Callable[..., Path]:
    """Write a devkit whose ids 1, 2, ... are `wnids`; after them comes a synset that is no class."""

    def write(path: Path, *, wnids: Sequence[str], truth: Sequence[object]) -> Path:
        rows = [(number, wnid, "words", 0) for number, wnid in enumerate(wnids, start=1)]
        rows.append((len(rows) + 1, "n00001740", "entity", len(rows)))
        names = ("ILSVRC2012_ID", "WNID", "words", "num_children")
        synsets = io.BytesIO()
        table = np.array(rows, dtype=[(name, "O") for name in names])
        savemat(synsets, {"synsets": table.reshape(-1, 1)})
        folder = "ILSVRC2012_devkit_t12/data"
        files = {
            f"{folder}/ILSVRC2012_validation_ground_truth.txt": "".join(f"{n}\n" for n in truth).encode(),
            f"{folder}/meta.mat": synsets.getvalue(),
        }
        return write_tar(path, files, "w:gz")

    return write
