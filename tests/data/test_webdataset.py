from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtok.config.sections import DataConfig
from rtok.data import shards, webdataset
from rtok.data.decoding import DecodeError
from rtok.data.shards import index_shard, sample_of
from rtok.data.webdataset import Members, open_webdataset
from rtok.errors import UserError
from rtok.runs.inputs import images_identity
from tests.data.forms import write_tar


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rtok/shards"


@pytest.fixture
def png(write_images: Callable[..., None], tmp_path: Path) -> list[bytes]:
    write_images("p/0.png", "p/1.png", "p/2.png")
    return [(tmp_path / f"p/{number}.png").read_bytes() for number in range(3)]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Members]:
    def open_(**options: Any) -> Members:
        return open_webdataset(DataConfig(name="webdataset", root=tmp_path / "shards", **options))

    return open_


def test_samples(opened: Callable[..., Members], png: list[bytes], tmp_path: Path) -> None:
    members = {
        "./a.png": png[0],
        "a.cls": b"2\n",
        "b/c.JPG": png[1],
        "b/c.cls": b"0",
        "b/c.json": b"{}",
        "._a.png": b"x",
    }
    write_tar(tmp_path / "shards/0.tar", members)
    source = opened()
    assert (source.keys, source.labels, source.class_names) == (["a.png", "b/c.JPG"], [2, 0], ["0", "1", "2"])
    assert source.found == "2 images in 1 .tar file, 3 classes (0, 1, 2), 1 members passed over (1 .json)"
    assert source.read(1).size == (8, 8)


def test_a_sample_ends_at_the_first_dot() -> None:
    assert sample_of("a.b/c.seg.PNG") == ("a.b/c", "seg.png")
    assert sample_of("c") == ("c", "")


def test_a_picture_without_a_label_means_no_labels(
    opened: Callable[..., Members], png: list[bytes], tmp_path: Path
) -> None:
    write_tar(tmp_path / "shards/0.tar", {"a.png": png[0], "a.cls": b"1", "b.png": png[1]})
    assert opened().labels is None


def test_splits_are_in_the_names(opened: Callable[..., Members], png: list[bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "shards/photos-train-0000.tar", {"a.png": png[0]})
    write_tar(tmp_path / "shards/photos-train-0001.tar", {"b.png": png[1]})
    write_tar(tmp_path / "shards/validation/0.tar", {"a.png": png[2]})
    assert opened().keys == ["train/a.png", "train/b.png"]
    assert opened(split="val").keys == ["validation/a.png"]
    with pytest.raises(UserError, match=r"no split 'test'; it has train, validation"):
        opened(split="test")


def test_the_same_name_in_two_files_is_told_apart(
    opened: Callable[..., Members], png: list[bytes], tmp_path: Path
) -> None:
    write_tar(tmp_path / "shards/0.tar", {"a.png": png[0]})
    write_tar(tmp_path / "shards/1.tar", {"a.png": png[1]})
    source = opened(split="test")
    assert source.keys == ["0.tar/a.png", "1.tar/a.png"]
    assert source.read(0).tobytes() != source.read(1).tobytes()
    assert source.found.endswith(
        "; there are no splits in the names of the .tar files, so test is all of them (data.holdout divides them)"
    )


def test_an_index_is_kept_until_the_file_changes(
    png: list[bytes], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shards/0.tar"
    write_tar(path, {"a.png": png[0]})
    first = index_shard(path)
    [kept] = cache.iterdir()
    scanned: list[Path] = []
    scan = shards._scan
    monkeypatch.setattr(shards, "_scan", lambda path: scanned.append(path) or scan(path))
    assert index_shard(path) == first and scanned == []
    kept.write_text(json.dumps({"version": 1}))  # not one of ours
    assert index_shard(path) == first and scanned == [path]
    write_tar(path, {"b.png": png[0], "c.png": png[1]})
    assert index_shard(path).names == ["b.png", "c.png"] and len(scanned) == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    png: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_tar(tmp_path / "shards/0.tar", {"a.png": png[0]})
    assert index_shard(tmp_path / "shards/0.tar").names == ["a.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a tar file" * 100, r"0\.tar is not an uncompressed tar file"),
        (None, r"a\.cls in .*0\.tar holds 'cat': a label is a number"),
        ({"a.txt": b""}, r"there are no images in the \.tar files of"),
        ({}, r"there are no \.tar files in"),
    ],
)
def test_what_cannot_be_read(
    opened: Callable[..., Members], tmp_path: Path, png: list[bytes], content: Any, message: str
) -> None:
    (tmp_path / "shards").mkdir()
    if isinstance(content, bytes):
        (tmp_path / "shards/0.tar").write_bytes(content)
    elif content != {}:
        write_tar(tmp_path / "shards/0.tar", content or {"a.png": png[0], "a.cls": b"cat"})
    with pytest.raises(UserError, match=message):
        opened()


def test_a_compressed_file_is_refused(opened: Callable[..., Members], tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    tarfile.open(tmp_path / "shards/0.tar", "w:gz").close()
    with pytest.raises(UserError, match=r"is not an uncompressed tar file"):
        opened()


def test_a_file_that_was_cut_short_since(opened: Callable[..., Members], png: list[bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "shards/0.tar", {"a.png": png[0]})
    source = opened()
    (tmp_path / "shards/0.tar").write_bytes(b"")
    with pytest.raises(DecodeError, match=r"a\.png in .*0\.tar: cannot be read as an image: the file is empty"):
        source.read(0)


def test_another_file_is_another_input(opened: Callable[..., Members], png: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "shards/0.tar"
    write_tar(path, {"a.png": png[0]})
    before, whole = images_identity(opened()), images_identity(opened(), whole=True)
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    assert images_identity(opened()) != before and images_identity(opened(), whole=True) != whole


def test_places_are_numbers(opened: Callable[..., Members], png: list[bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "shards/0.tar", {"a.png": png[0], "b.png": png[1]})
    source = opened()
    assert isinstance(source, webdataset.Members) and source.places.dtype == np.int64
    assert source.places[0].tolist() == [0, 512, len(png[0])]
