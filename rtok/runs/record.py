"""The record of a run: versions, command, device, seconds and git, in `run.json` or `attack.json`."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from rtok.files import write_json
from rtok.runs.folder import RunFolder
from rtok.version import __version__

RECORDED_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors")


class RunRecord:
    """What a run was: versions, command, device, seconds, git. Seconds add up over resumptions.

    It is kept in `run.json`, or in the folder's record when that is JSON itself.
    """

    def __init__(
        self, folder: RunFolder, command: Sequence[str], device: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> None:
        own = folder.record.suffix == ".json"
        self.path = folder.record if own else folder.path / "run.json"
        self.started = time.monotonic()
        self.seconds_before = 0.0
        if folder.resuming:
            with suppress(OSError, ValueError, KeyError):
                self.seconds_before = float(json.loads(self.path.read_text())["seconds"])
        self.content: dict[str, Any] = {
            **({"config": folder.settings} if own else {}),
            "command": list(command),
            "versions": versions(),
            "device": dict(device),
            "git": git_state(),
            "inputs": dict(inputs),
        }

    def write(self, *, finished: bool, **more: Any) -> None:
        """Write the record as it stands now, with whatever else there is to say."""
        self.content.update(more)
        seconds = self.seconds_before + time.monotonic() - self.started
        write_json(self.path, {**self.content, "seconds": round(seconds, 3), "finished": finished})


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"rtok": __version__, "python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout that rtok runs from, or None outside of one."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", "errors.py") == "":  # installed inside somebody else's repository
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
