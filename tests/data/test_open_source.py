from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtok.data import SOURCES, open_source
from rtok.errors import UserError


# The sets with masks have a layout of their own, tested beside them.
@pytest.mark.parametrize("name", [name for name in SOURCES if name not in ("ade20k", "folder-seg")])
def test_every_data_set_opens(write_images, config, name: str) -> None:
    write_images("test/n01440764/a.png", "test/n01440764/b.png")
    source = open_source(config(name, split="test", limit=None), seed=0)
    assert len(source) == len(source.keys) == len(source.groups) == len(set(source.keys)) > 0
    assert source.read(0).mode == "RGB"
    assert len(open_source(config(name, split="test", limit=1), seed=0)) == 1


def test_an_unknown_data_set_is_refused(config) -> None:
    with pytest.raises(UserError, match=r"'photo' is no data set.*folder.*Did you mean 'photos'"):
        open_source(config("photo", limit=None), seed=0)


def test_choosing_data_loads_no_torch() -> None:
    code = "import rtok.data, sys; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
