from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from rtok.config.sections import DataConfig
from rtok.data import open_source
from rtok.data.imagenet_layout import IMAGENET_LABELS, SPLITS
from rtok.errors import UserError
from rtok.preparation import prepare_imagenet
from rtok.preparation.devkit import DEVKIT

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"
WHOLE = (
    *(SPLITS["train"].path(wnid, number) for wnid in (TENCH, GOLDFISH, SHARK) for number in (3, 20)),
    *(SPLITS["val"].path(wnid, number) for number, wnid in enumerate((SHARK, TENCH, GOLDFISH), start=1)),
    *(SPLITS["test"].path("", number) for number in (1, 2)),
)
EXTRA = {
    *(f"{kind}-{split}.npy" for kind in ("entries", "class-ids", "class-names") for split in ("TRAIN", "VAL")),
    "entries-TEST.npy",
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_whole_imagenet(root: Path, write_tree, labels: Path, small_imagenet, capsys) -> None:
    write_tree(*WHOLE)
    prepare_imagenet(root, labels=labels)
    assert set(files(root)) == {*EXTRA, "labels.txt"}
    assert files(root)["labels.txt"] == b"n01440764,tench\nn01443537,goldfish\nn01484850,great_white_shark\n"
    entries = np.load(root / "entries-VAL.npy")
    assert entries.tolist() == [
        (2, 0, TENCH, "tench"),
        (3, 1, GOLDFISH, "goldfish"),
        (1, 2, SHARK, "great_white_shark"),
    ]
    assert np.load(root / "entries-TEST.npy").tolist() == [(1, 2**32 - 1, "", ""), (2, 2**32 - 1, "", "")]
    assert "refuses" not in capsys.readouterr().out

    for split in ("train", "val", "test"):
        source = open_source(DataConfig(name="imagenet", root=root, split=split), seed=0)
        assert set(source.keys) == {path for path in WHOLE if path.startswith(split)}
        assert all(source.read(index).size == (8, 8) for index in range(len(source)))


def test_a_second_run_writes_the_same_bytes(root: Path, write_tree, labels, small_imagenet) -> None:
    write_tree(*WHOLE)
    prepare_imagenet(root, labels=labels)
    first = files(root)
    times = {path: os.stat(root / path).st_mtime_ns for path in ("labels.txt",)}
    prepare_imagenet(root)  # the labels are now the root's own
    assert files(root) == first
    prepare_imagenet(root, labels=labels)
    assert files(root) == first
    assert times == {path: os.stat(root / path).st_mtime_ns for path in times}


def test_extra_files_can_lie_elsewhere(root: Path, write_tree, labels, small_imagenet, tmp_path) -> None:
    write_tree(*WHOLE)
    prepare_imagenet(root, labels=labels, extra=tmp_path / "a" / "b")
    assert set(files(tmp_path / "a" / "b")) == EXTRA
    assert set(files(root)) == {"labels.txt"}


def test_one_split(root: Path, write_tree, labels: Path, small_imagenet) -> None:
    write_tree(*WHOLE)
    (root / "train" / "n99999999").mkdir()  # not looked at
    prepare_imagenet(root, labels=labels, split="val")
    assert set(files(root)) == {"entries-VAL.npy", "class-ids-VAL.npy", "class-names-VAL.npy", "labels.txt"}


def test_all_means_all_there_are(root: Path, write_tree, labels: Path, small_imagenet) -> None:
    write_tree(*(path for path in WHOLE if path.startswith("val")))
    prepare_imagenet(root, labels=labels)
    assert {name for name in files(root) if name.startswith("entries")} == {"entries-VAL.npy"}


def test_the_roots_own_labels_are_used_and_kept(root: Path, write_tree, labels, small_imagenet) -> None:
    write_tree(*WHOLE)
    (root / "labels.txt").write_bytes(labels.read_bytes())
    prepare_imagenet(root)
    assert (root / "labels.txt").read_bytes() == labels.read_bytes()
    assert np.load(root / "class-names-VAL.npy").tolist() == ["tench", "goldfish", "great_white_shark"]


def test_a_part_needs_permission_and_dinov2_is_named(root: Path, write_tree, labels, capsys) -> None:
    write_tree(*WHOLE)
    with pytest.raises(UserError, match=r"not the complete ImageNet\. train: 6 good images of 1,281,167; val: 3 g"):
        prepare_imagenet(root, labels=labels)
    assert files(root) == {}
    prepare_imagenet(root, labels=labels, allow_partial=True)
    assert set(files(root)) == {*EXTRA, "labels.txt"}
    assert "DINOv2's own reader refuses sets that are not full size" in capsys.readouterr().out


def test_a_part_has_imagenets_class_indices(root: Path, write_tree) -> None:
    write_tree(SPLITS["val"].path(SHARK, 7), SPLITS["val"].path("n15075141", 8))
    prepare_imagenet(root, allow_partial=True)
    assert np.load(root / "entries-VAL.npy").tolist() == [
        (7, 2, SHARK, "great_white_shark"),
        (8, 999, "n15075141", "toilet_tissue"),
    ]
    assert len(np.load(root / "class-ids-VAL.npy")) == 1000
    assert (root / "labels.txt").read_bytes() == IMAGENET_LABELS.read_bytes()


def test_what_is_wrong_is_listed_and_left_out(root: Path, write_tree, labels, small_imagenet, capsys) -> None:
    write_tree(*WHOLE)
    bad = {
        "empty": root / SPLITS["train"].path(TENCH, 3),
        "damaged": root / SPLITS["val"].path(SHARK, 1),
        "misnamed": root / "test" / "x.JPEG",
    }
    bad["empty"].write_bytes(b"")
    bad["damaged"].write_bytes(bad["damaged"].read_bytes()[:-20])
    bad["misnamed"].write_bytes(b"x")
    with pytest.raises(UserError) as error:
        prepare_imagenet(root, labels=labels)
    assert str(error.value) == (
        f"--root: {root} is not the complete ImageNet. train: 5 good images of 6, 1 empty; "
        "val: 2 good images of 3, 1 damaged; test: 1 misnamed. Fix it, or pass --allow-partial to use the "
        "good images."
    )
    out = capsys.readouterr().out
    for kind, path in bad.items():
        assert f"{path.relative_to(root)}: {kind}: " in out
    assert files(root) == {}

    prepare_imagenet(root, labels=labels, allow_partial=True)
    assert np.load(root / "entries-TRAIN.npy")["actual_index"].tolist() == [20, 20, 3, 20, 3]
    assert np.load(root / "entries-VAL.npy")["actual_index"].tolist() == [2, 3]
    assert np.load(root / "class-ids-VAL.npy").tolist() == [TENCH, GOLDFISH, SHARK]


def test_a_long_list_is_cut(root: Path, write_tree, labels, capsys) -> None:
    write_tree(SPLITS["val"].path(TENCH, 1))
    for number in range(130):
        (root / "val" / f"x{number}").touch()
    prepare_imagenet(root, labels=labels, allow_partial=True)
    lines = capsys.readouterr().out.splitlines()
    assert sum(": misnamed: not in a class folder" in line for line in lines) == 100
    assert "val: 30 more files are misnamed" in lines


def test_a_missing_class_folder_is_told(root: Path, write_tree, labels, small_imagenet) -> None:
    write_tree(*(SPLITS["val"].path(TENCH, number) for number in (1, 2, 3)))
    with pytest.raises(UserError, match=r"val: 2 of the 3 class folders missing\."):
        prepare_imagenet(root, labels=labels)


@pytest.mark.parametrize("allow_partial", [False, True])
def test_wrong_input_is_refused(root: Path, write_tree, labels, tmp_path, allow_partial: bool) -> None:
    def refuse(message: str, **options: object) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError, match=message):
            prepare_imagenet(root, allow_partial=allow_partial, **options)  # type: ignore[arg-type]
        assert sorted(tmp_path.rglob("*")) == before

    refuse("--root: there is no folder .*imagenet")
    write_tree("n01440764/n01440764_1.JPEG")
    refuse(r"has no folder train, val, test; it holds n01440764\. .*--archives DIR")
    refuse(r"has no folder val; it holds n01440764", split="val")
    write_tree(SPLITS["val"].path(TENCH, 1), SPLITS["val"].path(SHARK, 2))
    refuse(r"--split: 'vall' is not a split; valid are train, val, test, all\. Did you mean 'val'", split="vall")
    refuse("--archives: there is no folder", archives=tmp_path / "gone")
    refuse("--extra: .*three.txt is a file", extra=labels / "extra")
    refuse("three.txt, line 4: n01440764 is listed twice", labels=_append(labels, f"{TENCH},carp\n"))
    labels.write_text(f"{TENCH},tench\n")
    refuse(rf"1 of the 2 class folders in .*val are not in the labels: {SHARK}\.", labels=labels)
    refuse("there is no folder", labels=labels, archives=tmp_path / "gone")
    refuse("cannot read .*gone", labels=tmp_path / "gone")
    (root / "labels.txt").write_text("n01440764\n")
    refuse("imagenet/labels.txt, line 1")


def _append(path: Path, text: str) -> Path:
    path.write_text(path.read_text() + text)
    return path


def test_a_part_without_a_good_image_is_refused(root: Path, labels: Path) -> None:
    (root / "val" / TENCH).mkdir(parents=True)
    with pytest.raises(UserError, match=r"there are no good images in .*val"):
        prepare_imagenet(root, labels=labels, allow_partial=True)
    assert files(root) == {}


def test_a_dry_run_writes_nothing(root: Path, write_tree, labels, small_imagenet, tmp_path, capsys) -> None:
    write_tree(*WHOLE)
    before = sorted(tmp_path.rglob("*"))
    prepare_imagenet(root, labels=labels, extra=tmp_path / "extra", dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert "val: 3 good images in 3 class folders, 0 problems" in capsys.readouterr().out


def test_archives_are_unpacked_first(root, labels, tmp_path, write_tar, write_devkit, picture) -> None:
    downloads = tmp_path / "downloads"
    names = {f"ILSVRC2012_val_{number:08d}.JPEG": picture(number) for number in (1, 2, 3)}
    write_tar(downloads / "ILSVRC2012_img_val.tar", names)
    write_devkit(downloads / DEVKIT, wnids=[SHARK, GOLDFISH, TENCH], truth=[3, 1, 3])

    prepare_imagenet(root, labels=labels, archives=downloads, allow_partial=True, dry_run=True)
    assert not root.exists()
    for _ in range(2):
        prepare_imagenet(root, labels=labels, archives=downloads, allow_partial=True)
        entries = np.load(root / "entries-VAL.npy")
        assert entries[["actual_index", "class_index"]].tolist() == [(1, 0), (3, 0), (2, 2)]


def test_a_thousand_classes_in_seconds_as_dinov2_has_them(root: Path, picture) -> None:
    with IMAGENET_LABELS.open() as file:
        names = dict(csv.reader(file))
    random, data = np.random.default_rng(0), picture(0)
    for wnid in names:
        (root / "train" / wnid).mkdir(parents=True)
        first = root / "train" / wnid / f"{wnid}_1.JPEG"
        first.write_bytes(data)
        for number in random.choice(40_000, 29, replace=False) + 2:
            os.link(first, first.with_name(f"{wnid}_{number}.JPEG"))

    start = time.monotonic()
    prepare_imagenet(root, split="train", allow_partial=True)
    assert time.monotonic() - start < 60

    wnids = sorted(names)
    expected = [
        (int(path.rsplit("_", 1)[1].removesuffix(".JPEG")), index, wnids[index], names[wnids[index]])
        for path, index in ImageFolder(root / "train").samples
    ]
    entries = np.load(root / "entries-TRAIN.npy")
    longest = max(map(len, names.values()))
    assert entries.dtype == np.dtype(
        [("actual_index", "<u4"), ("class_index", "<u4"), ("class_id", "<U9"), ("class_name", f"<U{longest}")]
    )
    assert len(entries) == 30_000 and entries.tolist() == expected
    assert np.load(root / "class-ids-TRAIN.npy").tolist() == wnids
    assert np.load(root / "class-names-TRAIN.npy").tolist() == [names[wnid] for wnid in wnids]
