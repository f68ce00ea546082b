"""Tensor files with metadata."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rtok.errors import UserError

_SUFFIXES = (".pth", ".pt", ".safetensors")


def save_tensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file or, for any other suffix, a pickled state dict with no keys but the model's."""
    if path.suffix == ".safetensors":
        save_file(dict(state), path, metadata=dict(metadata))
        return
    # Every `nn.Module.state_dict()` has `_metadata`: strict loading accepts it and `torch.load` keeps it.
    content: Any = OrderedDict(state)
    content._metadata = OrderedDict({"": dict(metadata)})
    torch.save(content, path)


def check_suffix(path: Path) -> None:
    """Raise UserError if the file's name does not end as those of this format do."""
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: name a file.")
    if path.suffix not in _SUFFIXES:
        raise UserError(f"'{path}': this format is written as .pth, .pt or .safetensors: name a file that ends so.")
