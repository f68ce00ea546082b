"""Downloaded weights are what the hub named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rtok.errors import UserError
from rtok.models.downloads import check_download

REPOSITORY, COMMIT = "timm/some_vit", "a" * 40


def cached(cache: Path, content: bytes, blob: str, name: str = "model.safetensors") -> Path:
    """Lay a file into a cache as the hub's client does."""
    folder = cache / "models--timm--some_vit"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "blobs" / blob).write_bytes(content)
    (folder / "snapshots" / COMMIT / name).symlink_to(folder / "blobs" / blob)
    return folder / "blobs" / blob


@pytest.mark.parametrize("name", ["model.safetensors", "open_clip_pytorch_model.bin", "own.bin"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    settings = {"hf_hub_id": REPOSITORY, "hf_hub_filename": "own.bin"}
    blob = cached(tmp_path, b"weights", hashlib.sha256(b"weights").hexdigest(), name)
    check_download(settings, tmp_path)
    blob.write_bytes(b"weighty")
    with pytest.raises(UserError, match="does not have the SHA-256"):
        check_download(settings, tmp_path)


def test_small_files_have_no_sha256(tmp_path: Path) -> None:
    cached(tmp_path, b"weights", "b" * 40)  # the hash of a git object
    check_download({"hf_hub_id": REPOSITORY}, tmp_path)


def test_what_was_not_downloaded_is_not_checked(tmp_path: Path) -> None:
    check_download({"hf_hub_id": REPOSITORY}, tmp_path)
    check_download({}, tmp_path)
