"""What identifies a set of images: paths, labels and bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.imagenet_extra import ExtraFiles, open_extra, write_extra
from rtok.data.imagenet_layout import SPLITS, Classes
from rtok.data.masks import MaskedFiles
from rtok.runs.inputs import images_identity


def test_labels_and_bytes_are_part_of_the_identity(pictures: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        shutil.copy(pictures / "picture0.png", tmp_path / "set" / "train" / name / "0.png")

    def identity(**options: Any) -> str:
        data = {"name": "folder", "root": str(tmp_path / "set")}
        config = Config.model_validate({"model": {"name": "dinov2_vits14"}, "data": data})
        return images_identity(open_source(config.data, seed=0), **options)

    first, whole = identity(), identity(whole=True)
    (tmp_path / "set" / "train" / "a" / "0.png").touch()
    assert identity() != first and identity(whole=True) == whole
    (tmp_path / "set" / "train" / "b").rename(tmp_path / "set" / "train" / "c")
    assert identity(whole=True) != whole


def test_every_kind_of_source_with_files_names_them(pictures: Path, tmp_path: Path) -> None:
    files = ExtraFiles(tmp_path, SPLITS["val"])
    write_extra(files, Classes(["n01440764"], ["tench"]), [np.array([3], np.uint32)])
    source = open_extra(tmp_path, files)
    first = images_identity(source)
    target = tmp_path / source.keys[0]
    target.parent.mkdir(parents=True)
    shutil.copy(pictures / "picture0.png", target)
    assert images_identity(source) != first


def test_the_masks_of_a_part_are_its_own(pictures: Path, tmp_path: Path) -> None:
    names = ["picture0.png", "picture1.png"]
    for folder in ("images", "masks"):
        shutil.copytree(pictures, tmp_path / folder)
    keys, masks = ([f"{folder}/{name}" for name in names] for folder in ("images", "masks"))
    (one, other) = (MaskedFiles(tmp_path, keys, masks, ["sky"], [(0, 0, 0)]).part([i]) for i in (0, 1))
    before = images_identity(one), images_identity(other)
    (tmp_path / masks[1]).touch()
    assert images_identity(one) == before[0] and images_identity(other) != before[1]
