from __future__ import annotations

from pathlib import Path

import pytest

from rtok.data.imagenet_layout import SPLITS, Classes
from rtok.errors import UserError
from rtok.preparation import scan
from rtok.preparation.scan import list_split, scan_split

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"
CLASSES = Classes((TENCH, GOLDFISH, SHARK), ("tench", "goldfish", "great_white_shark"))


def run(root: Path, split: str) -> scan.Scan:
    return scan_split(root, list_split(root, SPLITS[split], CLASSES))


def test_numbers_are_in_the_order_of_the_names(root: Path, write_tree) -> None:
    write_tree(*(f"train/{SHARK}/{SHARK}_{number}.JPEG" for number in (9, 10, 100, 1)))
    write_tree(f"train/{TENCH}/{TENCH}_5.JPEG")
    found = run(root, "train")
    assert list(found.numbers) == [TENCH, SHARK]
    assert [array.tolist() for array in found.numbers.values()] == [[5], [1, 10, 100, 9]]
    assert (found.images, found.problems) == (5, [])


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_the_size_of_chunks_does_not_matter(root: Path, write_tree, monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(scan, "_CHUNK", chunk)
    write_tree(*(f"test/ILSVRC2012_test_{number:08d}.JPEG" for number in range(1, 6)))
    assert run(root, "test").numbers[""].tolist() == [1, 2, 3, 4, 5]


def test_every_kind_of_problem_is_named_and_left_out(root: Path, write_tree) -> None:
    write_tree(f"val/{TENCH}/ILSVRC2012_val_00000001.JPEG", f"val/{TENCH}/ILSVRC2012_val_2.JPEG")
    write_tree("val/ILSVRC2012_val_00000003.JPEG", "val/.hidden.JPEG", f"val/{TENCH}/._x.JPEG")
    (root / "val" / TENCH / "ILSVRC2012_val_00000004.JPEG").touch()
    (root / "val" / TENCH / "ILSVRC2012_val_00000005.JPEG").write_bytes(b"\xff\xd8\xff\xe0")
    (root / "val" / TENCH / "more").mkdir()
    found = run(root, "val")
    assert found.numbers[TENCH].tolist() == [1]
    assert [(problem.kind, problem.path) for problem in found.problems] == [
        ("misnamed", "val/ILSVRC2012_val_00000003.JPEG"),
        ("empty", f"val/{TENCH}/ILSVRC2012_val_00000004.JPEG"),
        ("damaged", f"val/{TENCH}/ILSVRC2012_val_00000005.JPEG"),
        ("misnamed", f"val/{TENCH}/ILSVRC2012_val_2.JPEG"),
        ("misnamed", f"val/{TENCH}/more"),
    ]
    assert found.problems[3].reason == "not named like ILSVRC2012_val_00000293.JPEG"


def test_an_unknown_class_folder_is_refused(root: Path, write_tree) -> None:
    write_tree(f"val/{TENCH}/x.JPEG", *(f"val/n0000000{number}/x.JPEG" for number in range(6)))
    with pytest.raises(UserError, match=r"6 of the 7 class folders .*: n00000000, .*, n00000004, \.\.\.\. Move"):
        list_split(root, SPLITS["val"], CLASSES)
