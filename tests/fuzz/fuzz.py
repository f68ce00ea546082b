"""Fuzzing of what reads strangers' files: `make fuzz`, or `python tests/fuzz/fuzz.py TARGET [options of libFuzzer]`.

A target fails when reading does anything but return or raise UserError.
"""

from __future__ import annotations

import io
import logging
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit(
        "atheris is missing: `make fuzz` installs it where there is a wheel (CPython 3.11 on x86-64 Linux has one)."
    )

import timm  # noqa: F401 (before, since instrumenting torch and timm takes many minutes)
import torch
from safetensors.torch import save

with atheris.instrument_imports(include=["rtok", "yaml"]):
    from rtok import tokens
    from rtok.checkpoints import read_checkpoint, state_dict
    from rtok.config import load_config
    from rtok.inspection import inspect

from rtok.errors import UserError

FILE = Path(tempfile.mkdtemp(prefix="rtok-fuzz-"))
CONFIG = b"model: {name: dinov2_vits14, image_size: 224}\ndata: {name: photos}\nattack: {preset: paper, eps: 8/255}\n"


def config(data: bytes) -> None:
    path = FILE / "config.yaml"
    path.write_bytes(data)
    load_config("train", path)


def pickled(data: bytes) -> None:
    read(FILE / "checkpoint.pth", data)


def safetensors(data: bytes) -> None:
    """The header is the fuzzer's; its length is right, so that more than the length is tried."""
    read(FILE / "checkpoint.safetensors", struct.pack("<Q", len(data)) + data + bytes(64))


def read(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    content = read_checkpoint(path)
    for use in (
        lambda: state_dict(content, path),
        lambda: tokens.RobustnessTokens.parse(content, path),
        lambda: inspect(path),
    ):
        expect_user_error(use)


def expect_user_error(call: Callable[[], object]) -> None:
    try:
        call()
    except UserError as error:
        assert str(error)


def seeds() -> dict[str, bytes]:
    """One good input a target."""
    buffer = io.BytesIO()
    values = {"rtokens": torch.ones(1, 2, 4)}
    torch.save(values, buffer)
    return {
        "config": CONFIG,
        "pickled": buffer.getvalue(),
        "safetensors": save(values, {"format": "rtok-tokens-1"})[8:],
    }


TARGETS: dict[str, Callable[[bytes], None]] = {"config": config, "pickled": pickled, "safetensors": safetensors}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {'|'.join(TARGETS)} [options of libFuzzer]")
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    name = sys.argv.pop(1)
    corpus = FILE / "corpus"
    corpus.mkdir()
    (corpus / "good").write_bytes(seeds()[name])
    atheris.Setup([*sys.argv, str(corpus)], lambda data: expect_user_error(lambda: TARGETS[name](data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
