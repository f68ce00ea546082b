from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from rtok.config.registry import DATASETS
from rtok.data import open_source
from rtok.errors import UserError

# Those that are not files in folders, those with masks, and what is in memory, are tested beside them.
OTHERS = ("ade20k", "folder-seg", "given", "hf", "webdataset")


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in OTHERS])
def test_every_data_set_opens(write_images, config, name: str) -> None:
    write_images("test/n01440764/a.png", "test/n01440764/b.png")
    source = open_source(config(name, split="test", limit=None), seed=0)
    assert len(source) == len(source.keys) == len(source.groups) == len(set(source.keys)) > 0
    assert source.read(0).mode == "RGB"
    assert len(open_source(config(name, split="test", limit=1), seed=0)) == 1


class Toy:
    """Three gray pictures of two classes, as a user would write a data set."""

    class_names: Sequence[str] = ("dark", "light")
    labels: Sequence[int] = (0, 1, 1)
    keys: Sequence[str] = ("a", "b", "c")
    groups = keys

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Image.Image:
        return Image.new("RGB", (4, 4), (80 * index,) * 3)


@pytest.fixture
def toy() -> Iterator[str]:
    DATASETS.add("toy", lambda config: Toy(), about="Three gray pictures.")
    yield "toy"
    DATASETS.remove("toy")


def test_a_registered_data_set_opens(toy: str, config) -> None:
    whole = open_source(config(toy, limit=None), seed=0)
    assert isinstance(whole, Toy) and whole.read(2).getpixel((0, 0)) == (160, 160, 160)
    part = open_source(config(toy, limit=2), seed=0)
    assert len(part) == 2 and sorted(part.labels) == [0, 1] and part.class_names == ("dark", "light")
    with pytest.raises(UserError, match=r"valid are .*folder-seg, given, toy\. Did you mean 'toy'"):
        open_source(config("toys", limit=None), seed=0)


def test_an_unknown_data_set_is_refused(config) -> None:
    with pytest.raises(UserError, match=r"'photo' is not a data set.*folder.*Did you mean 'photos'"):
        open_source(config("photo", limit=None), seed=0)


def test_choosing_data_loads_no_torch() -> None:
    code = "import rtok.data, sys; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
