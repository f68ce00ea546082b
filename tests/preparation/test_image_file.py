from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from rtok.data.decoding import FORMATS
from rtok.preparation import image_file
from rtok.preparation.image_file import DAMAGED, EMPTY, fault

noise = Image.effect_noise((64, 64), 80).convert("RGB")


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_whole_files_are_fine_whatever_they_are(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.JPEG"
    path.write_bytes(encode(kind))
    assert fault(path) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_usual_files_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(image_file, "read_image", lambda path: pytest.fail("decoded"))
    (tmp_path / "x.JPEG").write_bytes(encode(kind))
    assert fault(tmp_path / "x.JPEG") is None


def test_what_follows_the_image_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "x.JPEG").write_bytes(encode("JPEG") + b"written by a camera")
    assert fault(tmp_path / "x.JPEG") is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.001, 0.3, 0.9])
def test_truncated_files_are_damaged(tmp_path: Path, kind: str, part: float) -> None:
    whole = encode(kind)
    (tmp_path / "x.JPEG").write_bytes(whole[: max(1, int(part * len(whole)))])
    kind_of_fault, reason = fault(tmp_path / "x.JPEG") or ("", "")
    assert kind_of_fault == DAMAGED and reason


def test_other_faults(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert fault(tmp_path / "empty") == (EMPTY, "the file has 0 bytes")
    (tmp_path / "page").write_text("<html>404</html>")
    assert fault(tmp_path / "page") == (DAMAGED, f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file")
    assert fault(tmp_path) == (DAMAGED, "Is a directory")
    assert fault(tmp_path / "gone") == (DAMAGED, "No such file or directory")
