from __future__ import annotations

import pickle
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from rtok.data import photos
from rtok.data.photos import SPLITS, TILES, open_photos, tile_box
from rtok.errors import UserError


def test_no_photo_is_in_both_splits(config) -> None:
    train, test = (open_photos(config("photos", split=split)) for split in ("train", "test"))
    assert set(train.groups) == set(SPLITS["train"]) and set(test.groups) == set(SPLITS["test"])
    assert not set(train.groups) & set(test.groups)
    assert len(test) == len(test.keys) == len(test.groups) == TILES * len(SPLITS["test"]) == 80
    assert len(set(train.keys) | set(test.keys)) == len(train) + len(test)
    assert test.keys[5:7] == ["chelsea.png#0", "chelsea.png#1"] and test.groups[5] == "chelsea.png"


def test_tiles_are_cut_from_the_photo_the_package_gives(config) -> None:
    data = pytest.importorskip("skimage.data")
    source = pickle.loads(pickle.dumps(open_photos(config("photos", split="test"))))
    cat = data.chelsea()  # 300 x 451
    expected = [cat[:, 75:375], cat[:200, :200], cat[:200, 251:], cat[100:, :200], cat[100:, 251:]]
    for tile in range(TILES):
        picture = source.read(source.keys.index(f"chelsea.png#{tile}"))
        assert np.array_equal(np.asarray(picture), expected[tile])


def test_a_gray_photo_becomes_rgb(config) -> None:
    data = pytest.importorskip("skimage.data")
    source = open_photos(config("photos", split="test"))
    picture = np.asarray(source.read(source.keys.index("camera.png#0")))
    assert np.array_equal(picture, np.repeat(data.camera()[..., None], 3, axis=2))


@pytest.mark.parametrize("size", [(512, 512), (641, 427), (3, 200), (1, 1), (2, 2)])
def test_tiles_are_squares_inside_the_photo(size: tuple[int, int]) -> None:
    for tile in range(TILES):
        left, top, right, bottom = tile_box(*size, tile)
        assert 0 <= left <= right <= size[0] and 0 <= top <= bottom <= size[1]
        assert right - left == bottom - top


def test_an_unknown_split_is_refused(config) -> None:
    with pytest.raises(UserError, match=r"no split 'tset'; valid are train, test\. Did you mean 'test'"):
        open_photos(config("photos", split="tset"))


def test_a_package_that_is_not_installed_is_named(config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "find_spec", lambda package: None)
    with pytest.raises(
        UserError, match=r'scikit-image, which is not installed.*pip install "robustness-tokens\[demo\]"'
    ):
        open_photos(config("photos", split="test"))


def test_a_photo_that_is_not_on_disk_is_not_fetched(config, monkeypatch, tmp_path: Path) -> None:
    spec = ModuleSpec("somewhere", loader=None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(photos, "find_spec", lambda package: spec)
    with pytest.raises(UserError, match=r"camera\.png is not in .*pip install"):
        open_photos(config("photos", split="test"))
