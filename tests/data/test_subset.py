from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from PIL import Image

from rtok.data import open_source
from rtok.data.source import found
from rtok.data.subset import hold_out, take
from rtok.errors import UserError


@dataclass(frozen=True)
class Named:
    """Pictures whose width is their index."""

    keys: Sequence[str]
    groups: Sequence[str]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Image.Image:
        return Image.new("RGB", (index + 1, 1))


def plain(count: int) -> Named:
    keys = [f"{number}.png" for number in range(count)]
    return Named(keys, keys)


def labeled(*counts: int) -> Named:
    keys = [f"{label}/{number}.png" for label, count in enumerate(counts) for number in range(count)]
    return Named(keys, keys, [int(key[0]) for key in keys], [str(label) for label in range(len(counts))])


def test_a_limit_above_the_size_takes_all() -> None:
    source = plain(5)
    assert take(source, 5, seed=0) is source
    assert take(source, 9, seed=0) is source


def test_no_class_has_more_than_its_limit() -> None:
    source = labeled(20, 3, 9)
    assert Counter(take(source, None, seed=0, per_group=4).labels or ()) == {0: 4, 1: 3, 2: 4}
    assert Counter(take(source, 9, seed=0, per_group=4).labels or ()) == {0: 3, 1: 3, 2: 3}
    # a limit on classes takes the pictures that a limit on all of them would take first
    assert take(source, None, seed=5, per_group=2).keys == take(source, 6, seed=5).keys


def test_without_classes_the_limit_is_of_groups() -> None:
    keys = [f"{photo}#{tile}" for photo in "ab" for tile in range(5)]
    assert Counter(take(Named(keys, [key[0] for key in keys]), 9, seed=0, per_group=3).groups) == {"a": 3, "b": 3}
    assert take(plain(5), None, seed=0) is not None and len(take(plain(5), None, seed=0, per_group=1)) == 5


def test_what_is_chosen_keeps_its_order_and_its_parts_together() -> None:
    source = labeled(20, 20)
    subset = take(source, 7, seed=3)
    places = [source.keys.index(key) for key in subset.keys]
    assert len(subset) == 7 and places == sorted(set(places))
    assert subset.labels == [source.labels[place] for place in places]
    assert subset.groups == subset.keys
    assert [subset.read(index).width - 1 for index in range(7)] == places
    assert subset.class_names == ["0", "1"]


def test_the_seed_decides_and_repeats() -> None:
    source = plain(100)
    assert take(source, 10, seed=0).keys == take(source, 10, seed=0).keys
    assert take(source, 10, seed=0).keys != take(source, 10, seed=1).keys
    assert take(source, 10, seed=0).keys != source.keys[:10]


def test_smaller_limits_are_parts_of_larger_ones() -> None:
    source = labeled(30, 20, 10)
    chosen = [set(take(source, limit, seed=0).keys) for limit in range(1, 60)]
    assert all(smaller < larger for smaller, larger in pairwise(chosen))


@pytest.mark.parametrize("limit", [3, 6, 7, 12])
def test_classes_are_balanced(limit: int) -> None:
    counts = Counter(take(labeled(50, 5, 20), limit, seed=0).labels)
    assert max(counts.values()) - min(counts.values()) <= 1 and len(counts) == 3


def test_a_small_class_gives_what_it_has() -> None:
    assert Counter(take(labeled(50, 2, 50), 22, seed=0).labels) == {0: 10, 1: 2, 2: 10}


def test_without_classes_groups_are_balanced() -> None:
    source = plain(40)
    grouped = Named(source.keys, [str(number // 10) for number in range(40)])
    assert Counter(take(grouped, 8, seed=0).groups) == dict.fromkeys("0123", 2)


def test_in_a_plain_folder_the_choice_of_a_file_depends_on_no_other() -> None:
    source = plain(100)
    chosen = set(take(source, 20, seed=0).keys)
    fewer = Named(source.keys[::2], source.keys[::2])
    # Dropping files can only let others move up: whatever was chosen and is still there stays chosen.
    assert chosen & set(fewer.keys) <= set(take(fewer, 20, seed=0).keys)


def test_held_out_images_are_no_training_images(write_images, config) -> None:
    write_images(*(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(50)))
    splits = [config("folder", split=split, holdout=0.2) for split in ("train", "val", "test")]
    train, val, test = (open_source(data, seed=seed) for seed, data in enumerate(splits))
    whole = open_source(config("folder"), seed=0)
    assert set(train.keys) | set(val.keys) == set(whole.keys) and not set(train.keys) & set(val.keys)
    assert val.keys == test.keys and 10 <= len(val) <= 30
    assert found(val) == f"{len(val)} of 100 images in 2 folders, 2 classes (cat, dog), 8 x 8 px in 50 of them"
    assert val.class_names == ["cat", "dog"]
    # More files move no image to the other side.
    write_images(*(f"cat/new{number}.png" for number in range(20)))
    assert set(val.keys) < set(open_source(splits[1], seed=0).keys)


def test_a_group_is_on_one_side() -> None:
    keys = [f"photo{number // 5}#{number % 5}" for number in range(200)]
    grouped = Named(keys, [key.split("#")[0] for key in keys])
    held = hold_out(grouped, 0.3, "val")
    assert 0 < len(held) < 200 and not set(held.groups) & set(hold_out(grouped, 0.3, "train").groups)


@pytest.mark.parametrize("share", [1e-6, 1 - 1e-6])
def test_no_side_is_empty(share: float) -> None:
    pair = plain(2)
    assert [len(hold_out(pair, share, split)) for split in ("train", "val")] == [1, 1]
    with pytest.raises(UserError, match=r"data\.holdout: there is nothing to divide"):
        hold_out(Named(["a#0", "a#1"], ["a", "a"]), share, "val")
