from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from rtok.data import open_source
from rtok.data.imagenet import open_imagenet
from rtok.data.imagenet_extra import ExtraFiles, ExtraSource, write_extra
from rtok.data.imagenet_layout import IMAGENET_LABELS, SPLITS, read_classes
from rtok.errors import UserError

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


def numbers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint32)


def write_val(folder: Path, **by_wnid: np.ndarray) -> ExtraFiles:
    classes = read_classes(IMAGENET_LABELS)
    files = ExtraFiles(folder, SPLITS["val"])
    write_extra(files, classes, [by_wnid.get(wnid, numbers()) for wnid in classes.wnids])
    return files


def test_other_class_folders_count_in_order(write_images, config) -> None:
    write_images("val/n02000000/x.JPEG", f"val/{TENCH}/b.JPEG", f"val/{TENCH}/a.JPEG")
    write_images("train/n03000000/c.JPEG")
    source = open_imagenet(config("imagenet", split="val"))
    assert source.keys == [f"val/{TENCH}/a.JPEG", f"val/{TENCH}/b.JPEG", "val/n02000000/x.JPEG"]
    assert source.labels == [0, 0, 1]
    assert source.class_names == [TENCH, "n02000000", "n03000000"]
    assert open_imagenet(config("imagenet", split="train")).labels == [2]
    assert source.read(0).size == (8, 8)


def test_a_part_of_imagenet_has_imagenets_labels(write_images, config) -> None:
    write_images(f"val/{SHARK}/a.JPEG", "val/n15075141/b.JPEG")
    source = open_imagenet(config("imagenet", split="val"))
    assert source.labels == [2, 999]
    assert (len(source.class_names), source.class_names[2]) == (1000, "great_white_shark")


def test_the_roots_labels_are_the_classes(write_images, config, tmp_path: Path) -> None:
    write_images(f"val/{SHARK}/a.JPEG", f"val/{TENCH}/b.JPEG")
    (tmp_path / "labels.txt").write_text(f"{SHARK},shark\n{TENCH},fish\n")
    source = open_imagenet(config("imagenet", split="val"))
    assert (source.labels, source.class_names) == ([0, 1], ("fish", "shark"))
    (tmp_path / "labels.txt").write_text(f"{SHARK},shark\n")
    with pytest.raises(UserError, match=rf"class folder {TENCH} is not in .*labels\.txt"):
        open_imagenet(config("imagenet", split="val"))


def test_the_flat_test_split_has_no_labels(write_images, config) -> None:
    write_images("test/ILSVRC2012_test_00000002.JPEG", "test/ILSVRC2012_test_00000001.JPEG")
    source = open_imagenet(config("imagenet", split="test"))
    assert source.keys == [f"test/ILSVRC2012_test_0000000{number}.JPEG" for number in (1, 2)]
    assert source.labels is None and source.class_names is None


@pytest.mark.parametrize("stray", ["val/x.JPEG", "val/cats/x.JPEG", f"val/{TENCH}/deep/x.JPEG"])
def test_an_image_outside_class_folders_is_refused(write_images, config, stray: str) -> None:
    write_images(f"val/{TENCH}/a.JPEG", stray)
    with pytest.raises(UserError, match=f"{stray[4:]} is not in a class folder.*folder for other layouts"):
        open_imagenet(config("imagenet", split="val"))


def test_a_missing_split_is_refused(write_images, config) -> None:
    write_images(f"val/{TENCH}/a.JPEG")
    with pytest.raises(UserError, match=r"no folder 'train'; it holds val\."):
        open_imagenet(config("imagenet", split="train"))
    with pytest.raises(UserError, match=r"no split 'vall'.*Did you mean 'val'"):
        open_imagenet(config("imagenet", split="vall"))


def test_extra_files_and_folders_give_the_same(write_images, config, tmp_path: Path) -> None:
    names = [(TENCH, 293), (TENCH, 2), (SHARK, 31), (SHARK, 4)]
    write_images(*(SPLITS["val"].path(*name) for name in names))
    walked = open_imagenet(config("imagenet", split="val"))
    write_val(tmp_path / "extra", **{TENCH: numbers(2, 293), SHARK: numbers(4, 31)})
    read = open_imagenet(config("imagenet", split="val", extra=tmp_path / "extra"))
    assert isinstance(read, ExtraSource)
    assert list(read.keys) == list(read.groups) == walked.keys
    assert list(read.labels) == walked.labels == [0, 0, 2, 2]
    assert read.class_names == list(walked.class_names)
    assert (len(read), read.keys[1], read.keys[-1:], read.labels[3]) == (
        4,
        f"val/{TENCH}/ILSVRC2012_val_00000293.JPEG",
        [f"val/{SHARK}/ILSVRC2012_val_00000031.JPEG"],
        2,
    )
    for index in range(4):
        assert np.array_equal(np.asarray(read.read(index)), np.asarray(walked.read(index)))


def test_the_folders_are_not_walked_where_extra_files_are(config, tmp_path: Path) -> None:
    write_val(tmp_path, **{TENCH: numbers(7)})
    source = open_imagenet(config("imagenet", split="val"))  # there is no val at all
    assert list(source.keys) == [f"val/{TENCH}/ILSVRC2012_val_00000007.JPEG"]


def test_the_entries_stay_on_disk_and_out_of_pickles(config, tmp_path: Path) -> None:
    write_val(tmp_path, **{TENCH: np.arange(50_000, dtype=np.uint32)})
    source = open_imagenet(config("imagenet", split="val"))
    assert isinstance(source.entries, np.memmap)
    data = pickle.dumps(source)
    assert len(data) < 1_000
    assert pickle.loads(data).keys[49_999] == source.keys[49_999]


def test_a_limit_is_balanced_over_classes(config, tmp_path: Path) -> None:
    write_val(tmp_path, **{TENCH: numbers(*range(90)), SHARK: numbers(100, 101, 102, 103)})
    chosen = open_source(config("imagenet", split="val", limit=6), seed=0)
    assert chosen.labels == [0, 0, 0, 2, 2, 2]
    assert chosen.keys == open_source(config("imagenet", split="val", limit=6), seed=0).keys
    assert chosen.keys != open_source(config("imagenet", split="val", limit=6), seed=1).keys


def test_extra_files_that_lack_are_refused(write_images, config, tmp_path: Path) -> None:
    write_images(f"val/{TENCH}/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(UserError, match=r"entries-VAL\.npy is missing.*prepare-imagenet"):
        open_imagenet(config("imagenet", split="val", extra=tmp_path / "elsewhere"))
    files = write_val(tmp_path, **{SHARK: numbers(1)})
    np.save(files.class_names, np.array(["tench", "goldfish"]))
    with pytest.raises(UserError, match=r"class-names-VAL\.npy has 2 classes.*class index of 2"):
        open_imagenet(config("imagenet", split="val"))
    files.class_names.unlink()
    with pytest.raises(UserError, match=r"class-names-VAL\.npy is missing"):
        open_imagenet(config("imagenet", split="val"))
    files.entries.write_bytes(files.entries.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"entries-VAL\.npy is not a complete NumPy file"):
        open_imagenet(config("imagenet", split="val"))
    np.save(files.entries, np.arange(3))
    with pytest.raises(UserError, match=r"entries-VAL\.npy does not hold ImageNet entries"):
        open_imagenet(config("imagenet", split="val"))
