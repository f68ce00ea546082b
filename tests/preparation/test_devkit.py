from __future__ import annotations

from pathlib import Path

import pytest

from rtok.errors import UserError
from rtok.preparation.devkit import DEVKIT, validation_classes

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


def test_the_ground_truth_is_the_devkits_ids_and_not_the_class_order(tmp_path: Path, write_devkit) -> None:
    devkit = write_devkit(tmp_path / DEVKIT, wnids=[SHARK, TENCH, GOLDFISH], truth=[2, 2, 1, 3])
    assert validation_classes(devkit) == [TENCH, TENCH, SHARK, GOLDFISH]


def test_one_class_and_one_image(tmp_path: Path, write_devkit) -> None:
    devkit = write_devkit(tmp_path / DEVKIT, wnids=[SHARK], truth=[1])
    assert validation_classes(devkit) == [SHARK]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has no data/ILSVRC2012_validation_ground_truth\.txt; it is not the official devkit"),
        ({"k/data/ILSVRC2012_validation_ground_truth.txt": b"1\n"}, r"has no data/meta\.mat"),
        (
            {"k/data/ILSVRC2012_validation_ground_truth.txt": b"1\n", "k/data/meta.mat": b"no matrices" * 50},
            "are not those of the official devkit",
        ),
    ],
)
def test_another_archive_is_refused(tmp_path: Path, write_tar, files: dict[str, bytes], message: str) -> None:
    devkit = write_tar(tmp_path / DEVKIT, files, "w:gz")
    with pytest.raises(UserError, match=message):
        validation_classes(devkit)


@pytest.mark.parametrize(("wnids", "truth"), [([TENCH], [7]), (["tench"], [1]), ([TENCH], ["x"])])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, write_devkit, wnids: list, truth: list) -> None:
    with pytest.raises(UserError, match="are not those of the official devkit"):
        validation_classes(write_devkit(tmp_path / DEVKIT, wnids=wnids, truth=truth))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_an_unreadable_archive_is_refused(tmp_path: Path, write_devkit, content: bytes | None) -> None:
    whole = write_devkit(tmp_path / DEVKIT, wnids=[TENCH], truth=[1]).read_bytes()
    (tmp_path / DEVKIT).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UserError, match=r"cannot read .*devkit_t12\.tar\.gz.*Download it again"):
        validation_classes(tmp_path / DEVKIT)
