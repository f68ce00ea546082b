"""`rtok doctor`: what this installation can do, and what is missing for which command."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import typer

Line = tuple[str, str]

# What each extra is for.
EXTRAS = {
    "convert": "rtok convert --to onnx and --to transformers",
    "demo": "data.name: photos and digits, make demo",
    "heic": "HEIC images",
    "hf": "data.name: hf",
    "mlflow": "tracking: mlflow",
    "seg": "rtok eval-seg",
    "tracking": "tracking: tensorboard and wandb",
}
PATIENCE = 3  # seconds that the hub may take to answer
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")  # as Linux names the instructions, the last of ARM


def doctor() -> None:
    """Say what this installation can do: versions, devices, disk, the hub, and the extras that are missing."""
    for name, text in [*versions(), *devices(), *disk(), ("hub", hub()), *extras()]:
        typer.echo(f"{name:<12} {text}")


def versions() -> Iterator[Line]:
    """Yield the versions that decide a run's numbers."""
    import platform

    from rtok.runs.record import versions

    yield from versions().items()
    yield "platform", platform.platform()


def devices() -> Iterator[Line]:
    """Yield what can compute, and whether bf16 is fast there."""
    import torch

    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        fast = "fast" if about.major >= 8 else "emulated"  # since the Ampere generation
        yield f"cuda:{index}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB, bf16 {fast}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = cpu_bf16()
    bf16 = f"bf16 by {found}" if found else "no bf16 instructions: precision: bf16 is slower than fp32"
    yield "cpu", f"{cores} cores, {torch.get_num_threads()} threads, {bf16}"


def cpu_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the instructions for bf16 that the CPU has, as Linux names them; "" where there are none."""
    with suppress(OSError):
        words = set(cpuinfo.read_text().split())
        return ", ".join(name for name in _BF16 if name in words)
    return ""


def disk() -> Iterator[Line]:
    """Yield the free space of the working directory and of the hub's cache."""
    import shutil

    cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    for name, folder in (("here", Path.cwd()), ("hub's cache", cache)):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        yield name, f"{folder}, {shutil.disk_usage(there).free / 2**30:.0f} GiB free"


def hub() -> str:
    """Say whether pretrained weights can be downloaded."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import get_session

    local = "weights and data have to be local files"
    if constants.HF_HUB_OFFLINE:
        return f"offline, since HF_HUB_OFFLINE is set: {local}"
    login = "logged in" if get_token() else "not logged in, which rtok push needs: hf auth login"
    found: list[str] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            found.append(f"{constants.ENDPOINT} answers, {login}")
        except Exception as error:  # the client's own errors, whichever it is built on
            found.append(f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}): {local}")

    # The client's timeout is one for every try and every address of the host.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return found[0] if found else f"{constants.ENDPOINT} did not answer within {PATIENCE} seconds: {local}"


def extras() -> Iterator[Line]:
    """Yield each extra: installed, or what is missing, for what, and the command that installs it."""
    from importlib import metadata

    from rtok.version import DISTRIBUTION, install

    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield "extras", f"unknown, since {DISTRIBUTION} is not installed and runs from {Path(sys.path[0]).resolve()}"
        return
    for extra, purpose in EXTRAS.items():
        own = [text for text in required if re.search(rf"extra == ['\"]{extra}['\"]", text)]
        missing = [name for name in (re.split(r"[^A-Za-z0-9._-]", text)[0] for text in own) if not _installed(name)]
        if missing:
            yield f"[{extra}]", f"lacks {', '.join(missing)} for {purpose}: {install(extra)}"
        else:
            yield f"[{extra}]", f"installed, for {purpose}"


def _installed(name: str) -> bool:
    from importlib import metadata

    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(name))
    return False
