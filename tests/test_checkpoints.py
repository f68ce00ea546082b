from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rtok.checkpoints import read_checkpoint, state_dict, to_safetensors
from rtok.errors import UserError


class Payload:
    """Unpickling this creates a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, legacy: bool) -> None:
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    torch.save({"weight": Payload(witness)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"evil\.pth.*never runs"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Payload(witness)))
    with pytest.raises(UserError, match=r"evil\.pth.*never runs"):
        read_checkpoint(path)
    assert not witness.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 200, -20])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"cut{suffix}"
    tensors = {"a": torch.zeros(100), "b": torch.ones(3, 3)}
    torch.save(tensors, path) if suffix == ".pth" else save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"cut{suffix}' cannot be read"):
        read_checkpoint(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match=f"no file '{path}'"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ([torch.zeros(3)], "holds a list, not a state dict"),
        ({}, "it is empty"),
        ({"weight": torch.zeros(1), "epoch": 3}, "it holds 'epoch' beside tensors"),
        ({"optimizer": {"lr": 1}}, "it holds 'optimizer' beside tensors"),
    ],
)
def test_what_is_not_a_state_dict_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=message):
        state_dict(read_checkpoint(path), path)


def test_prefixes_go_only_when_every_key_has_them(tmp_path: Path) -> None:
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert state_dict(mixed, tmp_path).keys() == mixed.keys()
    whole = {"module.backbone.a": torch.zeros(1), "module.backbone.module.b": torch.zeros(1)}
    assert state_dict(whole, tmp_path).keys() == {"a", "module.b"}


def test_safetensors_are_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    metadata = {f"key{i}": "ü" * i for i in range(9)}
    tensors = {"b": torch.arange(5), "a": torch.ones(2, 3)}
    code = (
        "import sys, torch; from rtok.checkpoints import to_safetensors\n"
        "metadata = {f'key{i}': 'ü' * i for i in range(9)}\n"
        "tensors = {'b': torch.arange(5), 'a': torch.ones(2, 3)}\n"
        "sys.stdout.buffer.write(to_safetensors(tensors, metadata))"
    )
    root = Path(__file__).parent.parent
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=root).stdout
    here = to_safetensors(tensors, metadata)
    assert here == there
    (tmp_path / "x.safetensors").write_bytes(here)
    content = read_checkpoint(tmp_path / "x.safetensors")
    assert content.metadata == metadata and all(torch.equal(content[name], t) for name, t in tensors.items())


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(UserError, match="damaged or cut short"):
        read_checkpoint(tmp_path / "bomb.pth")
