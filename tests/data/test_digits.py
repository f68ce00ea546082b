from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rtok.data import digits
from rtok.data.digits import open_digits
from rtok.errors import UserError

bunch = pytest.importorskip("sklearn.datasets").load_digits()


def test_the_splits_divide_the_whole_set_by_class(config) -> None:
    train, test = (open_digits(config("digits", split=split)) for split in ("train", "test"))
    assert sorted([*train.keys, *test.keys]) == [f"digits/{number:05d}" for number in range(1797)]
    whole, held_out = Counter(bunch.target.tolist()), Counter(test.labels)
    assert held_out == {label: count // 5 for label, count in whole.items()}
    assert (len(train), len(test)) == (1442, 355)
    # The split is part of what numbers mean: it may never move.
    assert test.keys[:5] == ["digits/00021", "digits/00023", "digits/00035", "digits/00040", "digits/00042"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_and_labels_are_scikit_learns(config, split: str) -> None:
    source = open_digits(config("digits", split=split))
    for index in range(0, len(source), 50):
        number = int(source.keys[index].removeprefix("digits/"))
        expected = np.round(bunch.images[number] * 255 / 16)
        picture = source.read(index)
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), np.repeat(expected[..., None], 3, axis=2))
        assert source.labels[index] == bunch.target[number]
    assert source.class_names == tuple("0123456789")


def test_an_unknown_split_is_refused(config) -> None:
    with pytest.raises(UserError, match="no split 'val'; valid are train, test"):
        open_digits(config("digits", split="val"))


def test_without_scikit_learn_the_message_says_what_to_install(config, monkeypatch) -> None:
    monkeypatch.setattr(digits, "find_spec", lambda package: None)
    with pytest.raises(
        UserError, match=r'scikit-learn, which is not installed.*pip install "robustness-tokens\[demo\]"'
    ):
        open_digits(config("digits", split="test"))
