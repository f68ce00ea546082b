"""Weights in folders and on the hub, of which a server on this machine plays the part."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from rtok.config.sections import ModelConfig
from rtok.errors import UserError
from rtok.models.locations import local_file, present_file
from tests.hub import Hub


def test_a_repository_is_downloaded_once(hub: Callable[[dict[str, bytes]], Hub]) -> None:
    server = hub({"README.md": b"", "model.safetensors": b"weights", "pytorch_model.bin": b"the same"})
    assert present_file("hf-hub:someone/vit") is None
    found = local_file("hf-hub:someone/vit")
    assert (found.name, found.read_bytes()) == ("model.safetensors", b"weights")
    asked = len(server.asked)
    assert local_file("hf-hub:someone/vit") == present_file("hf-hub:someone/vit") == found
    assert len(server.asked) == asked


def test_a_file_is_named(hub: Callable[[dict[str, bytes]], Hub]) -> None:
    hub({"a.pth": b"a", "sub/b.pth": b"b"})
    assert local_file("hf-hub:someone/vit:sub/b.pth").read_bytes() == b"b"
    with pytest.raises(UserError, match=r"^hf-hub:someone/vit has several files of weights \(a\.pth, sub/b\.pth\)"):
        local_file("hf-hub:someone/vit")


def test_what_the_hub_lacks_is_said_with_what_to_do(hub: Callable[[dict[str, bytes]], Hub]) -> None:
    hub({"README.md": b""})
    with pytest.raises(UserError, match=r"hf-hub:someone/vit has no file of weights"):
        local_file("hf-hub:someone/vit")
    with pytest.raises(UserError, match=r"could not be downloaded \(.*set model\.weights: DIR/a\.pth\."):
        local_file("hf-hub:someone/vit:a.pth")


def test_offline_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        local_file("hf-hub:someone/vit")
    message = str(caught.value)
    assert message.startswith("hf-hub:someone/vit could not be downloaded (") and "\n" not in message
    assert message.endswith(
        "Without a connection, run `hf download someone/vit --local-dir DIR` where there is one, and set "
        "model.weights: local-dir:DIR."
    )


def test_a_changed_download_is_refused(hub: Callable[[dict[str, bytes]], Hub]) -> None:
    hub({"model.safetensors": b"weights"})
    local_file("hf-hub:someone/vit").resolve().write_bytes(b"weighty")
    with pytest.raises(UserError, match="does not have the SHA-256"):
        local_file("hf-hub:someone/vit")


def test_the_same_model_from_a_file_a_folder_and_the_hub(tiny: Any, tmp_path: Path, hub: Any) -> None:
    model = tiny("dinov2_vits14")
    (tmp_path / "folder").mkdir()
    shutil.copy(model.path, tmp_path / "folder/model.safetensors")
    hub({"model.safetensors": model.path.read_bytes()})
    wanted = model.load(image_size=28)
    for weights in (f"local-dir:{tmp_path / 'folder'}", "hf-hub:someone/vit", "hf-hub:someone/vit:model.safetensors"):
        loaded = model.load(weights=weights, image_size=28)
        assert loaded.fingerprint() == wanted.fingerprint()
        assert torch.equal(loaded(model.images(size=28)), wanted(model.images(size=28)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"^local-dir:.* has no file of weights \(\.safetensors, \.pth, \.pt, \.bin\): name one\."),
        (["a.pth", "b.pth"], r"has several files of weights \(a\.pth, b\.pth\)"),
        (None, r"there is no folder"),
    ],
)
def test_folders_without_the_one_file(names: list[str] | None, message: str, tmp_path: Path) -> None:
    if names is not None:
        (tmp_path / "w").mkdir()
        for name in names:
            (tmp_path / "w" / name).touch()
    with pytest.raises(UserError, match=message):
        local_file(f"local-dir:{tmp_path / 'w'}")


def test_a_config_keeps_the_place_as_it_was_written() -> None:
    for weights in ("hf-hub:a/b", "hf-hub:a/b:c.pth", "local-dir:x", "pretrained"):
        assert ModelConfig(name="dinov2_vits14", weights=weights).weights == weights
    assert ModelConfig(name="dinov2_vits14", weights="w.pth").weights == Path("w.pth")
    for wrong in ("hf-hub:a", "hf-hub:a/b/c", "hf-hub:/b", "local-dir:"):
        with pytest.raises(ValidationError, match=r"not a place on the hub|names no folder"):
            ModelConfig(name="dinov2_vits14", weights=wrong)
