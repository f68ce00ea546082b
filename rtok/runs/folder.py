"""The folder of a run: who may write into it, and what a run can leave in it."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rtok.config import strict_yaml
from rtok.config.environment import escape, map_texts
from rtok.config.types import parse_number
from rtok.errors import UserError
from rtok.files import LOCK_FILE, TEMPORARY, holds_run, read_json, write_atomic, write_json
from rtok.runs.lock import FolderLock

SUB_FOLDERS = ("images", "pictures", "examples", "heads", "guessed", "extracted", "state", "tensorboard")
# Everything a run can leave in its folder, so that --overwrite removes a run and nothing of the user's own.
MARKS = ("config.yaml", "run.json", "attack.json")  # they mark the folder as a run
TABLES = ("per_image.csv", "per_class.csv", "curve.csv", "activations.csv", "manifest.csv")
ENTRIES = "protocol-*.json"  # of a leaderboard
EXAMPLES = "examples/examples.json"  # the index of attacked images
RESULTS = ("results.json", ENTRIES, *TABLES, "*.png")
RUN_FILES = (*MARKS, "metrics.jsonl", *RESULTS, *SUB_FOLDERS)  # and the files of every kind of defense
# Keys that may differ between a run and its resumption: they say where and how fast, not what.
_FREE_TRAIN_KEYS = ("train.micro_batch", "train.activation_checkpointing", "train.checkpoint_every")
FREE_KEYS = ("out", "data.workers", "compile", "tracking", *_FREE_TRAIN_KEYS)

_FRACTION = re.compile(r"\d+(\.\d+)?/[1-9]\d*")
_LENGTHS = ("train.steps", "train.epochs")  # may grow: the state after the last step is where more of them begin


class RunFolder:
    """One run's folder, claimed for as long as the object lives.

    Args:
        settings: the resolved configuration as plain data.
        record: the file that holds the settings and so marks the folder as a run: the settings themselves as YAML, or
            JSON that has them under `config` beside the record of the run.
        resume: continue what the folder holds; an empty or missing folder is started afresh.
        may_grow: whether a resumption, also of a finished run, may have more `train.steps` or `epochs`.
        overwrite: replace the run that the folder holds. Files that no run writes are left alone.

    The constructor only looks: it raises `UserError` when the folder holds a run and neither flag was given, when the
    run there has other settings, or when the folder belongs to something else. `start` is what writes, and `running`
    is where the run belongs.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        record: str = "config.yaml",
        resume: bool = False,
        overwrite: bool = False,
        may_grow: bool = False,
    ) -> None:
        self.path = Path(path)
        self.state = self.path / "state"  # what `--resume` needs
        self.settings = dict(settings)
        self.record = self.path / record
        self.resume = resume
        self.overwrite = overwrite
        self._may_grow = may_grow
        self.longer = False  # whether a training goes on to more steps than it began with
        self._lock = FolderLock(self.path)
        if resume and overwrite:
            raise UserError("--resume and --overwrite exclude each other: choose one.")
        self.resuming = self._look()
        self._finished_before = self.finished()

    def finished(self, *files: str) -> bool:
        """Whether the run that the folder holds ran to its end, and these files of it are still there."""
        return bool(self._recorded("finished")) and all((self.path / f).exists() for f in files)

    def inputs(self) -> dict[str, str] | None:
        """Return the inputs that the run in the folder began with; None where it has not recorded any."""
        found = self._recorded("inputs")
        return found if isinstance(found, dict) else None

    def _recorded(self, key: str) -> Any:
        record = self.record if self.record.suffix == ".json" else self.path / "run.json"
        with suppress(UserError):
            return read_json(record).get(key)
        return None

    def start(self) -> None:
        """Lock the folder, look at it again, create or clear what it needs, and write the settings.

        Raises:
            UserError: another run is using the folder, or has used it since the constructor looked; the folder cannot
                be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if (self._look(), self.finished()) != (self.resuming, self._finished_before):
                raise UserError(f"another run has used {self.path} in the meantime: look at it and start again.")
            self._sweep()
            if not self.resuming:
                self._clear()
            self.state.mkdir(exist_ok=True)
            if not self.resuming and self.record.suffix == ".json":
                write_json(self.record, {"config": self.settings, "finished": False})
            elif not self.resuming or self.longer:
                write_atomic(self.record, strict_yaml.dump(escape(self.settings)))
        except OSError as error:
            if not self.resuming:
                with suppress(OSError):
                    self.state.rmdir()
            self.close()
            raise UserError(
                f"cannot write to {self.path}: {error.strerror}. Name another folder with --out."
            ) from error
        except UserError:
            self.close()
            raise

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the folder for the time of the run.

        Raises:
            UserError: the system failed the run (a full disk, a killed worker); the message says how to go on.
        """
        try:
            yield
        except (EOFError, ConnectionError, RuntimeError) as error:
            # A worker's death is seen in its pipe, or told by torch, which has no type of its own for it.
            if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
                raise
            with suppress(ValueError):  # outside of the main thread; torch's handler would raise once more, anywhere
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise UserError(
                f"the run in {self.path} stopped: the system ended a process that reads images, most likely for lack "
                f"of memory ({str(error).strip() or type(error).__name__}). What is finished is kept: the same command "
                "with --resume (and without --overwrite) goes on; --set data.workers=1 needs less memory."
            ) from error
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
            raise UserError(
                f"the run in {self.path} stopped: {what}. What is finished is kept: fix the cause, and the same "
                "command with --resume (and without --overwrite) goes on."
            ) from error
        finally:
            self.close()

    def tidy(self, *, keep_state: bool) -> None:
        """Remove what a run that was killed after its end left over, as far as the folder can be written."""
        with suppress(OSError, UserError):
            self._lock.acquire()
            self._sweep()
            if not keep_state:
                shutil.rmtree(self.state, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()

    def _look(self) -> bool:
        """Return whether this run goes on with what the folder holds, or refuse the folder."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file, not a folder: name another folder with --out.")
        if holds_run(self.path):
            if self.resume and self.record.exists():
                self._check_version()
                self._check_same_settings()
                return True
            if not self.overwrite:
                raise UserError(
                    f"{self.path} already holds a run: continue it with --resume, replace it with --overwrite, "
                    "or name another folder with --out."
                )
        elif self._holds_more() and not self._lock.path.exists():
            raise UserError(f"{self.path} is not empty and holds no run: name another folder with --out.")
        elif self._holds_more() and not self.overwrite:
            raise UserError(
                f"{self.path} holds the rest of a run whose replacement was killed: go on with --overwrite, "
                "or name another folder with --out."
            )
        return False

    def _holds_more(self) -> bool:
        """Whether something is in the folder besides the very beginnings of a run."""
        beginnings = (LOCK_FILE, "state") if self._lock.path.exists() else ()
        names = (path.name for path in self.path.iterdir()) if self.path.is_dir() else ()
        return any(name not in beginnings and not fnmatch(name, TEMPORARY) for name in names)

    def _sweep(self) -> None:
        """Remove the temporary files of a run that was killed."""
        for folder in (self.path, *(self.path / name for name in SUB_FOLDERS), *self.path.glob("images/*/")):
            for left_over in folder.glob(TEMPORARY):
                left_over.unlink()

    def _clear(self) -> None:
        """Remove a run, the files that mark the folder as a run first: no kill leaves half a run with its marks."""
        from rtok.defenses.files import file_patterns  # needs torch, which reports do without

        for pattern in (*RUN_FILES, *file_patterns()):
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _check_version(self) -> None:
        """Refuse to go on with a run of a version that recorded no inputs: nothing could tell whether they changed."""
        versions = self._recorded("versions")
        version = str(versions.get("rtok", "")) if isinstance(versions, dict) else ""
        if version.startswith("0.1."):
            raise UserError(
                f"{self.path} holds a run of rtok {version}, which recorded neither its inputs nor `defense`: its "
                "tokens and results can be used, but --resume needs that version. Start again with --overwrite, or "
                "name another folder with --out."
            )

    def _check_same_settings(self) -> None:
        try:
            text = self.record.read_text()
            written: Any = self.settings
            if self.record.suffix == ".json":
                found: Any = json.loads(text)["config"]
            else:
                found, written = strict_yaml.parse(text, str(self.record))[0], escape(self.settings)
            before, now = flatten(_as_numbers(found)), flatten(_as_numbers(written))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{self.record} cannot be read, so the run cannot be resumed: {error}") from error
        grown = [key for key in _LENGTHS if self._may_grow and (now.get(key) or 0) > (before.get(key) or 0)]
        self.longer = bool(grown)
        free = (*FREE_KEYS, *grown)
        different = sorted(
            key for key in before.keys() | now.keys() if key not in free and before.get(key) != now.get(key)
        )
        if different:
            shown = ", ".join(f"{key} ({before.get(key)!r} then, {now.get(key)!r} now)" for key in different[:5])
            raise UserError(
                f"{self.path} holds a run with other settings: {shown}. Resume with the same settings, "
                "replace it with --overwrite, or name another folder with --out."
            )


def _as_numbers(settings: Any) -> Any:
    """Read every radius written `8/255` as its number: a config file may spell it either way."""
    return map_texts(settings, lambda _, text: parse_number(text) if _FRACTION.fullmatch(text) else text)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into `{dotted.path: value}`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
