"""The run folder: who may write into it, atomic files, journals that survive a kill, and the record of a run.

A run never leaves half a file behind: every file is written to a temporary name beside its place and then renamed.
Only journals (JSON lines) are appended to; a last line torn by a kill is dropped when the journal is opened again.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from rtok import __version__
from rtok.config import strict_yaml
from rtok.config.environment import escape
from rtok.errors import UserError

RECORDED_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors")
# Everything a run can leave in its folder, so that --overwrite removes a run and nothing of the user's own.
RUN_FILES = (
    "config.yaml",
    "run.json",
    "metrics.jsonl",
    "rtokens*.safetensors",
    "results.json",
    "per_image.csv",
    "per_class.csv",
    "manifest.csv",
    "attack.json",
    "*.png",
    "images",
    "pictures",
    "heads",
    "state",
    "tensorboard",
)
# Keys that may differ between a run and its resumption: they say where and how fast, not what.
FREE_KEYS = ("out", "data.workers", "compile", "train.micro_batch", "train.checkpoint_every", "tracking")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with `path`'s suffix; on success it becomes `path`, on failure it is removed."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file, or leave what was there."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON; NaN is refused, since it is not JSON."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


class Journal:
    """JSON lines that are appended to while a run goes on, and read again when it is resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete lines; a torn last line is cut off the file."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            write_atomic(self.path, whole)
        return [json.loads(line) for line in whole.splitlines()]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows in one write and hand them to the system at once."""
        with self.path.open("ab") as file:
            file.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows))

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only the rows for which `wanted` holds, in their order."""
        kept = [row for row in self.rows() if wanted(row)]
        write_atomic(self.path, b"".join(json.dumps(row).encode() + b"\n" for row in kept))


class RunFolder:
    """One run's folder, claimed for as long as the object lives.

    Args:
        path: the folder; it need not exist.
        settings: the resolved configuration as plain data.
        record: the file that holds the settings and so marks the folder as a run: the settings themselves as YAML, or
            JSON that has them under `config` beside the record of the run.
        resume: continue what the folder holds; an empty or missing folder is started afresh.
        overwrite: replace the run that the folder holds. Files that no run writes are left alone.

    The constructor only looks: it raises `UserError` when the folder holds a run and neither flag was given, when the
    run there has other settings, or when the folder belongs to something else. `start` is what writes.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        record: str = "config.yaml",
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.settings = dict(settings)
        self.record = self.path / record
        self.overwrite = overwrite
        self._lock: int | None = None
        if resume and overwrite:
            raise UserError("--resume and --overwrite exclude each other: choose one.")
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file, not a folder: name another folder with --out.")
        self.resuming = resume and self.record.exists()
        if self.resuming:
            self._check_same_settings()
        elif self._holds_run() and not overwrite:
            raise UserError(
                f"{self.path} already holds a run: continue it with --resume, replace it with --overwrite, "
                "or name another folder with --out."
            )
        elif self._foreign_files() and not self._holds_run():
            raise UserError(f"{self.path} is not empty and holds no run: name another folder with --out.")

    @property
    def state(self) -> Path:
        """The sub-folder for what `--resume` needs."""
        return self.path / "state"

    @property
    def finished(self) -> bool:
        """Whether the run that the folder holds ran to its end."""
        record = self.record if self.record.suffix == ".json" else self.path / "run.json"
        with suppress(OSError, ValueError):
            return bool(json.loads(record.read_text()).get("finished"))
        return False

    def start(self) -> None:
        """Create or clear the folder, lock it, and write the settings."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire()
            if self.overwrite:
                self._clear()
            for left_over in self.path.glob(".*.tmp*"):
                left_over.unlink()
            self.state.mkdir(exist_ok=True)
            if not self.resuming and self.record.suffix == ".json":
                write_json(self.record, {"config": self.settings, "finished": False})
            elif not self.resuming:
                write_atomic(self.record, strict_yaml.dump(escape(self.settings)))
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path}: {error.strerror}. Name another folder with --out."
            ) from error

    def close(self) -> None:
        """Give the folder free for another run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _acquire(self) -> None:
        # A lock on the folder itself: no file to leave behind, and the system lifts it when the process dies.
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UserError(
                f"another run is writing into {self.path}: wait for it or name another folder with --out."
            ) from None

    def _holds_run(self) -> bool:
        return any((self.path / name).exists() for name in ("config.yaml", "run.json", "attack.json"))

    def _foreign_files(self) -> bool:
        return self.path.is_dir() and any(self.path.iterdir())

    def _clear(self) -> None:
        for pattern in RUN_FILES:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _check_same_settings(self) -> None:
        try:
            text = self.record.read_text()
            written: Any = self.settings
            if self.record.suffix == ".json":
                found: Any = json.loads(text)["config"]
            else:
                found, written = strict_yaml.parse(text, str(self.record))[0], escape(self.settings)
            before, now = flatten(found), flatten(written)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{self.record} cannot be read, so the run cannot be resumed: {error}") from error
        different = sorted(
            key
            for key in before.keys() | now.keys()
            if key not in FREE_KEYS and before.get(key) != now.get(key)
        )
        if different:
            shown = ", ".join(
                f"{key} ({before.get(key)!r} then, {now.get(key)!r} now)" for key in different[:5]
            )
            raise UserError(
                f"{self.path} holds a run with other settings: {shown}. Resume with the same settings, "
                "replace it with --overwrite, or name another folder with --out."
            )


class RunRecord:
    """What a run was: versions, command, device, seconds, git. Seconds add up over resumptions.

    It is kept in `run.json`, or in the folder's record when that is JSON itself.
    """

    def __init__(self, folder: RunFolder, command: Sequence[str], device: Mapping[str, Any]) -> None:
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
        }

    def write(self, *, finished: bool, **more: Any) -> None:
        """Write the record as it stands now, with whatever else there is to say."""
        self.content.update(more)
        seconds = self.seconds_before + time.monotonic() - self.started
        write_json(self.path, {**self.content, "seconds": round(seconds, 3), "finished": finished})


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into `{dotted.path: value}`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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
        done = subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        if (
            git("ls-files", "--error-unmatch", "errors.py") == ""
        ):  # installed inside somebody else's repository
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> list[str]:
    """The command as the user gave it, without the interpreter's path."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
