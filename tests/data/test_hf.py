from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Image, Value, disable_progress_bars
from pydantic import ValidationError

from rtok.config.sections import DataConfig
from rtok.data import hf
from rtok.data.decoding import DecodeError, read_image
from rtok.data.hf import Rows, open_hf
from rtok.errors import UserError
from rtok.runs.inputs import images_identity
from tests.data.forms import dataset_of

disable_progress_bars()
ANIMALS = ClassLabel(names=["cat", "dog"])


@pytest.fixture
def files(write_images: Callable[..., None], tmp_path: Path) -> list[Path]:
    write_images("images/a.png", "images/b.png", "images/c.png")
    return sorted((tmp_path / "images").iterdir())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Rows]:
    """Save a data set, or several splits of one, and open it."""

    def save(rows: Any, **options: Any) -> Rows:
        rows.save_to_disk(str(tmp_path / "saved"))
        return open_hf(DataConfig(name="hf", root=tmp_path / "saved", **options))

    return save


def test_pictures_without_labels(files: list[Path], saved: Callable[..., Rows]) -> None:
    source = saved(dataset_of(files))
    assert (source.keys, source.labels, source.class_names) == (["a.png", "b.png", "c.png"], None, None)
    assert source.found.endswith("saved") and source.found.startswith("3 images of")


def test_the_label_column_is_found_or_named(files: list[Path], saved: Callable[..., Rows]) -> None:
    columns = {
        "animal": (ANIMALS, [1, 0, 1]),
        "size": (Value("int64"), [4, 0, 2]),
        "color": (Value("string"), ["red", "blue", "red"]),
    }
    rows = dataset_of(files, **columns)
    found = saved(rows)
    assert (found.labels, found.class_names) == ([1, 0, 1], ["cat", "dog"])
    assert found.keys[0] == "dog/a.png"
    numbers, names = saved(rows, label_column="size"), saved(rows, label_column="color")
    assert (numbers.labels, numbers.class_names) == ([4, 0, 2], ["0", "1", "2", "3", "4"])
    assert (names.labels, names.class_names) == ([1, 0, 1], ["blue", "red"])


def test_rows_without_a_label_have_none_all_together(files: list[Path], saved: Callable[..., Rows]) -> None:
    assert saved(dataset_of(files, label=(ANIMALS, [0, -1, 1]))).labels is None


def test_splits_and_keys(files: list[Path], saved: Callable[..., Rows]) -> None:
    rows = dataset_of(files)
    both = DatasetDict(train=rows, validation=rows.select([0]))
    assert saved(both, split="val").keys == ["validation/a.png"]
    assert saved(both).keys == ["train/a.png", "train/b.png", "train/c.png"]
    assert saved(DatasetDict(train=rows)).keys == ["a.png", "b.png", "c.png"]
    assert "val is all of them" in saved(rows, split="val").found


def test_without_names_of_their_own_rows_are_numbered(files: list[Path], saved: Callable[..., Rows]) -> None:
    rows = dataset_of([files[0], files[1], files[0]])
    assert saved(rows).keys == ["00000000", "00000001", "00000002"]
    raw = saved(Dataset.from_dict({"jpeg": [file.read_bytes() for file in files]}))
    assert raw.keys == ["00000000", "00000001", "00000002"]
    assert raw.read(1).tobytes() == saved(dataset_of(files)).read(1).tobytes()


def test_a_row_without_a_picture_is_named(saved: Callable[..., Rows]) -> None:
    source = saved(Dataset.from_dict({"image": [b"", b"no picture", None]}))
    for index in range(3):
        with pytest.raises(DecodeError, match=rf"0000000{index} \(row {index}\): cannot be read as an image"):
            source.read(index)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"data\.split: .*saved has no split 'test'; it has train, validation\."),
        ({"holdout": 0.2}, r"data\.holdout: .*saved is divided already, into train, validation"),
        ({"image_column": "pixels"}, r"data\.image_column: .*no column 'pixels'; its columns are image, fine, coarse"),
        ({"image_column": "fine"}, r"data\.image_column: fine of .* holds no images"),
        ({"label_column": "image"}, r"data\.label_column: image of .* holds no labels"),
        ({}, r"data\.label_column: .* has several such columns: name one of fine, coarse\."),
    ],
)
def test_wrong_keys(files: list[Path], saved: Callable[..., Rows], options: dict[str, Any], message: str) -> None:
    rows = dataset_of(files, fine=(ANIMALS, [0, 1, 0]), coarse=(ANIMALS, [0, 0, 0]))
    with pytest.raises(UserError, match=message):
        saved(DatasetDict(train=rows, validation=rows), **options)


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_a_stream_is_read_as_far_as_the_limit(
    files: list[Path], tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = dataset_of(files, animal=(ANIMALS, [1, 0, 1]), color=(Value("string"), ["red", "blue", "red"]))
    if form == "saved":
        rows.save_to_disk(str(tmp_path / form))
    else:
        (tmp_path / form).mkdir()
        rows.to_parquet(str(tmp_path / form / "train-0.parquet"))

    def opened(**options: Any) -> Rows:
        return open_hf(DataConfig(name="hf", root=tmp_path / form, **{"streaming": True, "limit": 2, **options}))

    source = opened()
    assert (source.keys, source.labels, source.class_names) == (["dog/a.png", "cat/b.png"], [1, 0], ["cat", "dog"])
    assert source.found.startswith("2 images, the first of ")
    assert source.read(1).tobytes() == read_image(files[1]).tobytes()
    with pytest.raises(UserError, match=r"data\.label_column: color has names, which are numbered over all"):
        opened(label_column="color")
    assert images_identity(source) != images_identity(opened(limit=1))
    changed = dataset_of([files[0], files[2]], animal=(ANIMALS, [1, 0]))
    again = replace(source, fingerprint=hf._digest(changed.cast_column("image", Image(decode=False))["image"]))
    assert images_identity(source) != images_identity(again)


def test_a_stream_needs_an_end() -> None:
    for options, message in (({}, "needs data.limit"), ({"name": "folder", "limit": 1}, "is for hf: 'folder'")):
        with pytest.raises(ValidationError, match=message):
            DataConfig.model_validate({"name": "hf", "root": "a", "streaming": True, **options})


def test_a_folder_that_datasets_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root: .* has neither dataset_dict\.json nor state\.json"):
        open_hf(DataConfig(name="hf", root=tmp_path))


def test_no_column_of_images(saved: Callable[..., Rows]) -> None:
    with pytest.raises(UserError, match=r"no column of images; its columns are text"):
        saved(Dataset.from_dict({"text": ["a"]}))


def test_offline_the_hub_ends_in_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        open_hf(DataConfig(name="hf", repo="someone/photos"))
    assert str(caught.value).startswith("data.repo: someone/photos cannot be loaded (")
    assert str(caught.value).endswith(
        "Without a connection, run `hf download --repo-type dataset someone/photos --local-dir DIR` where there is "
        "one, and set data.root: DIR instead of data.repo."
    )


@pytest.mark.parametrize("keys", [{}, {"root": "a", "repo": "b/c"}])
def test_a_folder_or_an_id(keys: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"or data\.root, one of them"):
        DataConfig.model_validate({"name": "hf", **keys})
    with pytest.raises(ValidationError, match="is for hf"):
        DataConfig.model_validate({"name": "folder", "root": "a", "repo": "b/c"})
