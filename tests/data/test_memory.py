"""Images in memory: what is taken, what is refused, and that a key belongs to the image."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from rtok.config import DataConfig
from rtok.data import open_source
from rtok.data.memory import read_memory
from rtok.data.transforms import Transform
from rtok.errors import UserError

IMAGES = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 0, 1])


def test_a_tensor_comes_back_rounded_to_8_bits() -> None:
    source = read_memory(IMAGES)
    found = torch.stack([Transform("squash", (4, 6))(source.read(i), 0) for i in range(len(source))])
    assert torch.equal(found, (IMAGES * 255).round().to(torch.uint8))
    assert source.labels is None and source.class_names is None
    assert read_memory((IMAGES * 255).round().to(torch.uint8)).keys == source.keys


def test_a_key_belongs_to_the_image_and_not_to_its_place() -> None:
    keys = read_memory(IMAGES).keys
    assert read_memory(IMAGES.flip(0)).keys == keys[::-1] and len(set(keys)) == 5
    twice = read_memory(torch.cat([IMAGES[:1], IMAGES[:1]])).keys
    assert twice == [keys[0], f"{keys[0]}-2"]


def test_pairs_and_loaders_are_the_same_as_tensors() -> None:
    pair = read_memory((IMAGES, LABELS))
    assert (pair.labels, pair.class_names) == ([0, 2, 1, 0, 1], ["0", "1", "2"])
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=2)
    assert (read_memory(loader).keys, read_memory(loader).labels) == (pair.keys, pair.labels)
    assert read_memory([IMAGES[:2], IMAGES[2:]]).keys == pair.keys
    assert read_memory((IMAGES, LABELS), classes=7).class_names == list("0123456")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (7, "data is a int: give a folder"),
        ([], "there are no images"),
        (IMAGES * 2, "they must lie in"),
        (IMAGES[0], "One image needs a batch axis"),
        ((IMAGES, LABELS[:3]), r"labels have the shape \(3,\)"),
        ((IMAGES, LABELS.float()), "valid: whole numbers"),
        ((IMAGES, LABELS - 1), "labels are -1 to 1; valid: whole numbers from 0 to 1"),
        ([(IMAGES, LABELS), IMAGES], "5 of 10 images have labels"),
    ],
)
def test_what_is_refused(data: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_memory(data)


def test_labels_beyond_the_classes_of_the_model_are_refused() -> None:
    with pytest.raises(UserError, match="labels are 0 to 2; valid: whole numbers from 0 to 1"):
        read_memory((IMAGES, LABELS), classes=2)


def test_a_config_alone_cannot_open_them() -> None:
    with pytest.raises(UserError, match="a Python program had in memory"):
        open_source(DataConfig(name="given"), seed=0)
