from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtok.data.folder import open_folder
from rtok.errors import UserError


def test_images_are_found_at_any_depth_in_order(write_images, config) -> None:
    write_images("b.JPG", "a/deep/er/x.tiff", "a/y.jpeg", "a.b/z.WebP", "c.bmp", "d.tif", "e.png")
    source = open_folder(config("folder"))
    assert source.keys == ["a/deep/er/x.tiff", "a/y.jpeg", "a.b/z.WebP", "b.JPG", "c.bmp", "d.tif", "e.png"]
    assert source.groups == source.keys
    assert len(source) == 7


def test_other_and_hidden_files_are_left_out(write_images, config, tmp_path: Path) -> None:
    write_images("a.png", "._a.png", ".cache/b.png")
    for name in ("notes.txt", "a.png.part", "png"):
        (tmp_path / name).write_text("no image")
    assert open_folder(config("folder")).keys == ["a.png"]


def test_a_picture_is_read_from_its_key(write_images, config, tmp_path: Path) -> None:
    write_images("train/cat/a.png", "train/dog/b.png")
    source = pickle.loads(pickle.dumps(open_folder(config("folder"))))
    assert source.keys[1] == "train/dog/b.png"
    assert np.array_equal(np.asarray(source.read(1)), np.asarray(Image.open(tmp_path / "train/dog/b.png")))


def test_first_level_folders_are_classes(write_images, config) -> None:
    write_images("dog/1.png", "cat-b/1.png", "cat/2.png", "cat/more/1.png")
    source = open_folder(config("folder"))
    assert source.keys == ["cat/2.png", "cat/more/1.png", "cat-b/1.png", "dog/1.png"]
    assert source.class_names == ["cat", "cat-b", "dog"]
    assert source.labels == [0, 0, 1, 2]


def test_one_image_outside_the_folders_means_no_labels(write_images, config) -> None:
    write_images("cat/1.png", "dog/1.png", "0.png")
    source = open_folder(config("folder"))
    assert source.labels is None and source.class_names is None


def test_a_divided_folder_is_read_by_split(write_images, config) -> None:
    write_images("train/cat/1.png", "train/dog/1.png", "test/dog/2.png", "readme.png")
    test = open_folder(config("folder", split="test"))
    # A class has the same index in every split, also where the split lacks others.
    assert (test.keys, test.labels, test.class_names) == (["test/dog/2.png"], [1], ["cat", "dog"])
    assert open_folder(config("folder", split="train")).class_names == ["cat", "dog"]
    with pytest.raises(UserError, match=r"no folder 'val'; it holds test, train"):
        open_folder(config("folder", split="val"))


def test_links_are_followed_and_loops_end(write_images, config, tmp_path: Path) -> None:
    write_images("root/a/1.png", "elsewhere/2.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "root/b")
    os.symlink(tmp_path / "root", tmp_path / "root/a/loop")
    source = open_folder(config("folder", root=tmp_path / "root"))
    assert source.keys == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("gone", "there is no folder .*gone"),
        ("file.png", "is a file"),
        ("empty", "there are no images in .*empty.*jpg"),
        (None, "data.root is missing"),
    ],
)
def test_a_wrong_root_is_refused(write_images, config, tmp_path: Path, root: str | None, message: str) -> None:
    write_images("file.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("no image")
    with pytest.raises(UserError, match=message):
        open_folder(config("folder", root=None if root is None else tmp_path / root))


@pytest.mark.parametrize("names", [("Train", "Validation", "test_set"), ("training", "valid", "TEST"), ("trainset",)])
def test_splits_are_recognized_in_any_spelling(write_images, config, names: tuple[str, ...]) -> None:
    write_images(*(f"{name}/cat/1.png" for name in names))
    for split, name in zip(("train", "val", "test"), names, strict=False):
        assert open_folder(config("folder", split=split)).keys == [f"{name}/cat/1.png"]


def test_two_folders_for_a_split_are_refused(write_images, config) -> None:
    write_images("train/1.png", "val/1.png", "Validation/1.png")
    with pytest.raises(UserError, match=r"two folders for the split val, Validation and val"):
        open_folder(config("folder"))


def test_names_that_only_begin_like_a_split_are_classes(write_images, config) -> None:
    write_images("trains/1.png", "valley/1.png", "testimony/1.png")
    assert open_folder(config("folder")).class_names == ["testimony", "trains", "valley"]


def test_a_split_that_is_all_of_the_folder_says_so(write_images, config) -> None:
    write_images("cat/1.png", "cat/2.png")
    assert open_folder(config("folder")).found == "2 images in 1 folder, 1 class (cat), 8 x 8 px"
    source = open_folder(config("folder", split="val"))
    assert len(source) == 2 and "val is all of them (data.holdout divides them)" in source.found


def test_what_is_divided_already_is_not_divided_again(write_images, config) -> None:
    write_images("train/1.png", "test/1.png")
    with pytest.raises(UserError, match=r"data\.holdout: .* is divided already, into test, train"):
        open_folder(config("folder", holdout=0.5))


def test_a_relative_root_says_what_it_is_relative_to(config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"no folder gone \(relative to the working directory, {tmp_path}\)"):
        open_folder(config("folder", root=Path("gone")))
