"""What is found below a folder: images of every kind, never what a run wrote, and a count of what is passed over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtok.data import listing
from rtok.data.decoding import EXTENSIONS, read_image
from rtok.data.folder import open_folder
from rtok.data.listing import find_images
from rtok.errors import UserError


@pytest.mark.parametrize(
    "marks", [["run.json"], ["attack.json"], ["config.yaml", "state/"], ["config.yaml", ".rtok.lock"], [".rtok.lock"]]
)
def test_what_a_run_wrote_is_never_data(write_images, config, tmp_path: Path, marks: list[str]) -> None:
    write_images("a.png", "results/run/images/a-1.png", "results/run/loss.png", "results/own.png")
    for mark in marks:
        path = tmp_path / "results/run" / mark
        path.mkdir() if mark.endswith("/") else path.touch()
    source = open_folder(config("folder"))
    assert source.keys == ["a.png", "results/own.png"]
    assert source.found == "2 images in 2 folders, 8 x 8 px, 1 folder of runs passed over (results/run)"
    with pytest.raises(UserError, match=r"data\.root: .*results/run is the folder of a run"):
        open_folder(config("folder", root=tmp_path / "results/run"))


def test_the_users_own_config_and_state_are_no_run(write_images, config, tmp_path: Path) -> None:
    write_images("mine/a.png", "state/b.png")
    (tmp_path / "mine/config.yaml").touch()
    assert open_folder(config("folder")).keys == ["mine/a.png", "state/b.png"]


def test_a_run_is_neither_a_split_nor_a_class(write_images, config, tmp_path: Path) -> None:
    write_images("cat/a.png", "test/images/b.png")
    (tmp_path / "test/run.json").write_text(json.dumps({"finished": True}))
    assert open_folder(config("folder")).keys == ["cat/a.png"]
    write_images("train/cat/a.png", "val/cat/a.png", "val/run/images/b.png")
    (tmp_path / "val/run/attack.json").touch()
    assert open_folder(config("folder")).class_names == ["cat"]


def test_files_that_are_passed_over_are_counted_by_suffix(write_images, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(listing, "EXTENSIONS", (".png",))
    write_images("a.png", "b/c.PNG")
    for name in ("x.HEIC", "b/y.heic", "notes.txt", "Makefile", ".hidden", "._a.png"):
        (tmp_path / name).touch()
    assert find_images(tmp_path).text == (
        "2 images in 2 folders, 4 files passed over (2 .heic, 1 .txt, 1 without suffix), "
        'HEIC is read after pip install "robustness-tokens[heic]"'
    )


def test_the_headers_of_a_few_images_tell_their_sizes(tmp_path: Path, monkeypatch) -> None:
    for number, size in enumerate([(40, 30), (8, 9), (20, 20), (50, 10)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert find_images(tmp_path).sizes(tmp_path) == ", 8 x 9 to 40 x 30 px"
    monkeypatch.setattr(listing, "_SAMPLED", 2)
    assert find_images(tmp_path).sizes(tmp_path) == ", 20 x 20 to 40 x 30 px in 2 of them"
    for name in ("0.png", "2.png"):
        (tmp_path / name).write_bytes(b"no image")
    assert find_images(tmp_path).sizes(tmp_path) == ""


def test_nothing_but_other_files_is_an_error_that_counts_them(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.raw").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no images in x \(relative to the working directory, /.*1 \.raw"):
        find_images(Path("x"))


def test_a_folder_that_cannot_be_read_is_named(write_images, config, tmp_path: Path, monkeypatch) -> None:
    write_images("a.png")

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"data\.root: cannot list .*: Permission denied"):
        open_folder(config("folder"))


def test_gif_and_avif_are_read(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (32, 24), color) for color in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    red.save(tmp_path / "b.webp")
    files = ["a.gif", "b.webp"]
    if ".avif" in EXTENSIONS:
        red.save(tmp_path / "c.AVIF", format="AVIF")
        files.append("c.AVIF")
    assert [name for (name,) in find_images(tmp_path).files] == files
    for name in files:
        assert np.abs(np.asarray(read_image(tmp_path / name), int) - [255, 0, 0]).max() < 8


def test_heic_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    Image.new("RGB", (64, 32), "red").save(tmp_path / "a.heic", format="HEIF")
    assert find_images(tmp_path).files == [("a.heic",)]
    assert np.abs(np.asarray(read_image(tmp_path / "a.heic"), int) - [255, 0, 0]).max() < 8
