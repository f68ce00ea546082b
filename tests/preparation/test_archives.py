from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rtok.data.imagenet_layout import SPLITS
from rtok.errors import UserError
from rtok.preparation.archives import ARCHIVES, unpack_archives
from rtok.preparation.devkit import DEVKIT

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"
ALL = list(SPLITS.values())
TRAIN, VAL, TEST = ALL


@pytest.fixture
def archives(tmp_path: Path, write_tar, write_devkit, picture) -> Path:
    """The four official archives, small."""
    folder = tmp_path / "downloads"
    classes = {}
    for first, wnid in ((10, TENCH), (20, SHARK)):
        files = {f"{wnid}_{number}.JPEG": picture(number) for number in (first, first + 1)}
        classes[f"{wnid}.tar"] = write_tar(tmp_path / f"{wnid}.tar", files).read_bytes()
    write_tar(folder / "ILSVRC2012_img_train.tar", classes)
    write_tar(
        folder / "ILSVRC2012_img_val.tar",
        {f"ILSVRC2012_val_{number:08d}.JPEG": picture(number) for number in (3, 1, 2)},
    )
    write_tar(
        folder / "ILSVRC2012_img_test_v10102019.tar", {"test": None, "test/ILSVRC2012_test_00000001.JPEG": picture(1)}
    )
    write_devkit(folder / DEVKIT, wnids=[SHARK, TENCH, GOLDFISH], truth=[2, 3, 2])
    return folder


def content(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def unpacked(picture: Callable[[int], bytes]) -> dict[str, bytes]:
    """What is to be there afterwards."""
    numbers = {
        f"test/{TEST.file_name('', 1)}": 1,
        **{TRAIN.path(TENCH, number): number for number in (10, 11)},
        **{TRAIN.path(SHARK, number): number for number in (20, 21)},
        VAL.path(TENCH, 1): 1,
        VAL.path(GOLDFISH, 2): 2,
        VAL.path(TENCH, 3): 3,
    }
    return {path: picture(number) for path, number in numbers.items()}


def test_all_archives_become_folders(archives: Path, root: Path, unpacked: dict[str, bytes]) -> None:
    unpack_archives(archives, root, ALL)
    assert content(root) == unpacked
    assert not list(root.rglob(".*"))


def test_only_the_wanted_splits(archives: Path, root: Path) -> None:
    unpack_archives(archives, root, [TEST])
    assert [path.name for path in root.iterdir()] == ["test"]


def test_the_older_test_archive_is_flat(archives: Path, root: Path, write_tar, unpacked) -> None:
    (archives / "ILSVRC2012_img_test_v10102019.tar").unlink()
    name = TEST.file_name("", 1)
    write_tar(archives / "ILSVRC2012_img_test.tar", {name: unpacked[f"test/{name}"]})
    unpack_archives(archives, root, [TEST])
    assert list(content(root)) == [f"test/{name}"]


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 7])
def test_an_interrupted_run_goes_on(
    archives: Path, root: Path, unpacked: dict[str, bytes], monkeypatch, stop_at: int
) -> None:
    copied: list[str] = []

    def interrupted(file, out) -> None:
        copied.append(out.name)
        if len(copied) == stop_at:
            out.write(file.read(10))  # a torn file stays behind
            raise KeyboardInterrupt
        out.write(file.read())

    monkeypatch.setattr(shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack_archives(archives, root, ALL)
    complete = [folder for folder in ("val", "test", *(f"train/{wnid}" for wnid in (TENCH, SHARK)))]
    for folder in complete:  # what has its name is whole
        if (root / folder).exists():
            expected = {path: data for path, data in unpacked.items() if path.startswith(folder)}
            assert {f"{folder}/{path}": data for path, data in content(root / folder).items()} == expected
    done_before = set(copied[:-1])

    unpack_archives(archives, root, ALL)
    assert content(root) == unpacked
    assert not list(root.rglob(".*"))
    assert len(copied) == len(unpacked) + 1 and not done_before & set(copied[stop_at:])


def test_what_is_there_is_left_alone(archives: Path, root: Path, unpacked: dict[str, bytes]) -> None:
    for path in (f"train/{TENCH}/mine.txt", "val/mine.txt"):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text("mine")
    (archives / DEVKIT).unlink()  # not needed, since val is there
    unpack_archives(archives, root, [TRAIN, VAL])
    shark = {path: data for path, data in unpacked.items() if path.startswith(f"train/{SHARK}")}
    assert content(root) == {f"train/{TENCH}/mine.txt": b"mine", "val/mine.txt": b"mine", **shark}


def test_a_dry_run_writes_nothing(archives: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack_archives(archives, root, ALL, dry_run=True)
    assert not root.exists()
    assert capsys.readouterr().out.count("would unpack") == 3


def test_missing_archives_are_named(archives: Path, root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"empty does not hold ILSVRC2012_img_train\.tar, ILSVRC2012_img_val"):
        unpack_archives(empty, root, ALL)
    (archives / DEVKIT).unlink()
    with pytest.raises(UserError, match=rf"img_val\.tar needs {re.escape(DEVKIT)} in"):
        unpack_archives(archives, root, ALL)
    assert not root.exists()


@pytest.mark.parametrize(
    "member",
    [
        {"../ILSVRC2012_val_1.JPEG": b"x"},
        {"/etc/passwd": b"x"},
        {"ILSVRC2012_val_00000001.JPEG": "../../secret"},
        {"README": b"x"},
        {"ILSVRC2012_val_00000001.JPEG/..": b"x"},
    ],
)
def test_foreign_members_are_refused(archives: Path, root: Path, write_tar, member: dict) -> None:
    write_tar(archives / "ILSVRC2012_img_val.tar", member)
    with pytest.raises(UserError, match=r"img_val\.tar is not the official archive: it holds '"):
        unpack_archives(archives, root, [VAL])
    assert content(root) == {}


def test_no_member_gets_out_of_the_folder(archives: Path, root: Path, tmp_path: Path, write_tar) -> None:
    before = set(tmp_path.rglob("*"))
    name = "ILSVRC2012_val_00000001.JPEG"
    write_tar(archives / "ILSVRC2012_img_val.tar", {f"../../{name}": b"x"})
    unpack_archives(archives, root, [VAL])
    assert content(root) == {f"val/{TENCH}/{name}": b"x"}
    assert all(root in path.parents or path == root for path in set(tmp_path.rglob("*")) - before)


@pytest.mark.parametrize("split", ALL)
def test_damaged_archives_are_named(archives: Path, root: Path, split) -> None:
    path = archives / ARCHIVES[split.name][0]
    whole = path.read_bytes()
    for damaged in (b"no archive", b"", *(whole[: 512 * blocks] for blocks in (1, 2, 3, 4)), whole[:700]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{re.escape(path.name)} is damaged: .*Download it again"):
            unpack_archives(archives, root, [split])
        assert not (root / split.name / TENCH).exists()


def test_a_validation_image_without_ground_truth_is_refused(archives: Path, root: Path, write_devkit) -> None:
    write_devkit(archives / DEVKIT, wnids=[TENCH], truth=[1, 1])
    with pytest.raises(UserError, match=r"ground truth for 2 images, not for ILSVRC2012_val_00000003\.JPEG"):
        unpack_archives(archives, root, [VAL])


def test_a_training_archive_of_something_else_is_refused(archives: Path, root: Path, write_tar) -> None:
    write_tar(archives / "ILSVRC2012_img_train.tar", {"cats.tar": b"x"})
    with pytest.raises(UserError, match=r"not the official archive: it holds 'cats\.tar'"):
        unpack_archives(archives, root, [TRAIN])
