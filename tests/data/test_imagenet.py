from __future__ import annotations

import pytest

from rtok.data.imagenet import open_imagenet
from rtok.errors import UserError


def test_classes_are_the_folders_in_order(write_images, config) -> None:
    write_images("val/n02000000/x.JPEG", "val/n01440764/b.JPEG", "val/n01440764/a.JPEG")
    write_images("train/n03000000/c.JPEG")
    source = open_imagenet(config("imagenet", split="val"))
    assert source.keys == ["val/n01440764/a.JPEG", "val/n01440764/b.JPEG", "val/n02000000/x.JPEG"]
    assert source.labels == [0, 0, 1]
    assert source.class_names == ["n01440764", "n02000000"]
    assert source.read(0).size == (8, 8)


@pytest.mark.parametrize("stray", ["val/x.JPEG", "val/cats/x.JPEG", "val/n01440764/deep/x.JPEG"])
def test_an_image_outside_class_folders_is_refused(write_images, config, stray: str) -> None:
    write_images("val/n01440764/a.JPEG", stray)
    with pytest.raises(UserError, match=f"{stray[4:]} is not in a class folder.*folder for other layouts"):
        open_imagenet(config("imagenet", split="val"))


def test_a_missing_split_is_refused(write_images, config) -> None:
    write_images("val/n01440764/a.JPEG")
    with pytest.raises(UserError, match=r"no folder 'train'; it holds val\."):
        open_imagenet(config("imagenet", split="train"))
