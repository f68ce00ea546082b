"""The same pictures in a folder, in data sets of `datasets` and in tar files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def dataset_of(files: Sequence[Path], **columns: Any) -> Any:
    """Return a data set with a column of pictures, and these columns as (feature, values)."""
    from datasets import Dataset, Features, Image

    features = Features({"image": Image(), **{name: feature for name, (feature, _) in columns.items()}})
    pictures = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    return Dataset.from_dict({"image": pictures, **{name: values for name, (_, values) in columns.items()}}, features)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def all_forms(folder: Path, out: Path) -> dict[str, Path]:
    """Write the pictures of a folder of classes, CLASS/FILE, in every form; return the roots."""
    from datasets import ClassLabel, disable_progress_bars

    disable_progress_bars()
    files = sorted(folder.glob("*/*"))
    classes = sorted({file.parent.name for file in files})
    labels = [classes.index(file.parent.name) for file in files]
    rows = dataset_of(files, label=(ClassLabel(names=classes), labels))
    rows.save_to_disk(str(out / "saved"))
    (out / "parquet").mkdir()
    rows.to_parquet(str(out / "parquet/train-00000-of-00001.parquet"))
    half = len(files) // 2
    for number, part in enumerate((slice(half), slice(half, None))):
        members: dict[str, bytes] = {}
        for file, label in zip(files[part], labels[part], strict=True):
            name = f"{file.parent.name}/{file.name}"
            members |= {name: file.read_bytes(), f"{Path(name).with_suffix('.cls')}": str(label).encode()}
        write_tar(out / f"shards/{number:04d}.tar", members)
    return {"folder": folder, "hf": out / "saved", "hf-parquet": out / "parquet", "webdataset": out / "shards"}
