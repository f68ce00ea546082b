"""The files against what DINOv2's code makes, rebuilt from its description with torchvision's ImageFolder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from rtok.data.imagenet_extra import ExtraFiles, write_extra
from rtok.data.imagenet_layout import SPLITS, Classes

CLASSES = Classes(("n01440764", "n01443537", "n01484850"), ("tench", "goldfish", "great_white_shark"))
NUMBERS = {"train": ([10026, 9, 4_000_000_000], [1], [70, 8]), "val": ([293, 2], [50_000], [1])}


def reference(root: Path, split: str) -> np.ndarray:
    rows = []
    for path, index in ImageFolder(root / split).samples:
        number = int(Path(path).stem.rsplit("_", 1)[1])
        rows.append((number, index, CLASSES.wnids[index], CLASSES.names[index]))
    fields = ("actual_index", "class_index", "class_id", "class_name")
    return np.array(rows, dtype=list(zip(fields, ("<u4", "<u4", "U9", "U17"), strict=True)))


@pytest.mark.parametrize("name", ["train", "val"])
def test_labeled_splits(tmp_path: Path, name: str) -> None:
    split = SPLITS[name]
    arrays = []
    for wnid, numbers in zip(CLASSES.wnids, NUMBERS[name], strict=True):
        for number in numbers:
            path = tmp_path / split.path(wnid, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        in_order = sorted(numbers, key=lambda number: split.file_name(wnid, number))
        arrays.append(np.array(in_order, dtype=np.uint32))
    files = ExtraFiles(tmp_path, split)
    write_extra(files, CLASSES, arrays)

    entries, expected = np.load(files.entries), reference(tmp_path, name)
    assert entries.dtype == expected.dtype
    assert np.array_equal(entries, expected)
    assert files.entries.name == f"entries-{name.upper()}.npy"
    for file, values, width in ((files.class_ids, CLASSES.wnids, 9), (files.class_names, CLASSES.names, 17)):
        array = np.load(file)
        assert (array.dtype, array.tolist()) == (np.dtype(f"<U{width}"), list(values))
    assert {path.name for path in tmp_path.glob("*.npy")} == {
        f"{kind}-{name.upper()}.npy" for kind in ("entries", "class-ids", "class-names")
    }


def test_the_test_split_has_no_classes(tmp_path: Path) -> None:
    files = ExtraFiles(tmp_path, SPLITS["test"])
    write_extra(files, CLASSES, [np.arange(1, 100_001, dtype=np.uint32)])
    entries = np.load(files.entries, mmap_mode="r")
    assert entries.dtype == np.dtype(
        [("actual_index", "<u4"), ("class_index", "<u4"), ("class_id", "<U0"), ("class_name", "<U0")]
    )
    assert entries["actual_index"].tolist() == list(range(1, 100_001))
    assert set(entries["class_index"].tolist()) == {2**32 - 1}
    assert (str(entries[0]["class_id"]), str(entries[0]["class_name"])) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["entries-TEST.npy"]
