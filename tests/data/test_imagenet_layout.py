from __future__ import annotations

from pathlib import Path

import pytest

from rtok.data.imagenet_layout import IMAGENET_LABELS, SPLITS, Classes, read_classes
from rtok.errors import UserError


@pytest.mark.parametrize(
    ("split", "wnid", "number", "path"),
    [
        ("train", "n01440764", 10026, "train/n01440764/n01440764_10026.JPEG"),
        ("val", "n01440764", 293, "val/n01440764/ILSVRC2012_val_00000293.JPEG"),
        ("test", "", 1, "test/ILSVRC2012_test_00000001.JPEG"),
    ],
)
def test_paths(split: str, wnid: str, number: int, path: str) -> None:
    assert SPLITS[split].path(wnid, number) == path
    assert SPLITS[split].number(wnid, Path(path).name) == number


@pytest.mark.parametrize(
    "name",
    [
        "n01440764_010026.JPEG",
        "n01440764_10026.jpeg",
        "n01440764_10026.JPEG.JPEG",
        "n01443537_10026.JPEG",
        "n01440764_.JPEG",
        "n01440764_-1.JPEG",
        "n01440764_1²6.JPEG",
        "n01440764_4294967296.JPEG",
        "10026.JPEG",
    ],
)
def test_a_name_that_dinov2_would_not_find_has_no_number(name: str) -> None:
    assert SPLITS["train"].number("n01440764", name) is None


def test_sizes_are_those_of_ilsvrc_2012() -> None:
    assert [split.size for split in SPLITS.values()] == [1_281_167, 50_000, 100_000]


def test_labels_may_be_in_any_order_quoted_and_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes('\ufeffn01443537,"fish, gold"\r\n\r\nn01440764,tench'.encode())
    assert read_classes(path) == Classes(("n01440764", "n01443537"), ("tench", "fish, gold"))
    path.write_text(read_classes(path).to_text())
    assert path.read_bytes() == b'n01440764,tench\nn01443537,"fish, gold"\n'
    assert read_classes(path).index == {"n01440764": 0, "n01443537": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"n01440764,tench\n,goldfish\n", "line 2: ',goldfish' is not a class"),
        (b"n01440764,\n", "line 1: 'n01440764,' is not a class"),
        (b"n01440764\n", "line 1"),
        (b"n01440764 tench\n", "line 1"),
        (b"n01440764,tench,Tinca tinca\n", "line 1.*quote a name that has a comma"),
        (b"n0144076,tench\n", "line 1"),
        (b"n01440764,tench\nn01443537,goldfish\nn01440764,carp\n", "line 3: n01440764 is listed twice"),
        (b"\n", "names no classes"),
        (b"n01440764,\xff\n", "not CSV text in UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_wrong_labels_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "my-labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"my-labels.txt.*{message}"):
        read_classes(path)


def test_imagenets_labels_are_timms() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    classes = read_classes(IMAGENET_LABELS)
    assert list(classes.wnids) == info.label_names()  # timm's are in class order
    for index, name in enumerate(classes.names):
        first = info.index_to_description(index).split(", ")[0]
        assert name == first.replace(" ", "_") and "," not in name
    doubled = {name for name in classes.names if classes.names.count(name) > 1}
    assert doubled == {"crane", "maillot"}
    assert IMAGENET_LABELS.read_text() == classes.to_text()
