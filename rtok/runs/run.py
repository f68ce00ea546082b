"""The life of a run, the same for every command: look, refuse, lock, start or resume, journal, record, finish, tidy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypedDict

from rtok.compute import Compute
from rtok.console import say
from rtok.files import read_json, write_json
from rtok.runs.folder import RunFolder
from rtok.runs.inputs import Inputs, other_images, require_same
from rtok.runs.journal import Journal
from rtok.runs.record import RunRecord

if TYPE_CHECKING:
    from rtok.config.schema import Config


KEYS = "keys.json"  # of `state`: the images that the run began with
CONTINUE = "the same command with --resume (and without --overwrite) continues from the last saved state"
NOTHING_SAVED = "nothing is saved yet, so the same command with --resume starts from the beginning"


class RunOptions(TypedDict, total=False):
    """What is said of a run beside its config.

    resume: continue what the folder holds; overwrite: replace it; command: the command line, for the run's record;
    plugins: the SHA-256 of each plugin's file, by its name.
    """

    resume: bool
    overwrite: bool
    command: Sequence[str]
    plugins: Mapping[str, str]


class Run(ExitStack):
    """One run of a command in its folder `path`; `state` is the sub-folder for what `--resume` needs.

    with Run.open(config, compute, **options) as run:
        if run.finished("results.json"):
            return ...
        ...  # open and check everything that the run needs: nothing is written yet
        run.start(inputs_of(setup), setup.source.keys)
        ...  # the work, row by row into run.journal
        run.finish(skipped=skipped)

    An error on the way ends the run, its folder released and resumable.
    """

    def __init__(
        self, folder: RunFolder, compute: Compute, command: Sequence[str], journal: str, keep_state: bool
    ) -> None:
        super().__init__()
        self.folder = folder
        self.path, self.state, self.resuming = folder.path, folder.state, folder.resuming
        self.compute = compute
        self.command = command
        self.journal = Journal(folder.path / journal)
        self._keep_state = keep_state
        self._record: RunRecord | None = None
        self.inputs: Inputs = {}

    @classmethod
    def open(
        cls,
        config: Config,
        compute: Compute,
        *,
        journal: str = "state/images.jsonl",
        record: str = "config.yaml",
        keep_state: bool = False,
        resume: bool = False,
        overwrite: bool = False,
        command: Sequence[str] = ("rtok",),
        plugins: Mapping[str, str] | None = None,
    ) -> Run:
        """Look at the folder `config.out`.

        Args:
            journal: the file, within the folder, that the run appends its rows to.
            record: the file that marks the folder as a run of this kind.
            keep_state: leave `state/` when the run has finished, so that it can go on to more `train.steps`.
            resume, overwrite, command, plugins: see `RunOptions`.

        Raises:
            UserError: the folder holds a run and neither flag was given, a run with other settings, or something else.
        """
        flags = {"resume": resume, "overwrite": overwrite, "may_grow": keep_state}
        folder = RunFolder(config.out, config.to_dict(), record=record, **flags)
        run = cls(folder, compute, command, journal, keep_state)
        run.inputs = {f"plugin {name}": sha256 for name, sha256 in (plugins or {}).items()}
        return run

    def finished(self, *files: str) -> bool:
        """Whether the run to be resumed ran to its end and these files are there: then there is nothing left to do."""
        if self.folder.longer or not (self.resuming and self.folder.finished(*files)):
            return False
        if self.compute.is_main:
            self.folder.tidy(keep_state=self._keep_state)
        say(f"{self.path} holds a finished run: nothing is left to do", enabled=self.compute.is_main)
        return True

    def start(
        self,
        inputs: Mapping[str, str],
        keys: Sequence[str],
        *about: str,
        wanted: Callable[[dict[str, Any]], bool] = lambda row: True,
    ) -> None:
        """Say what computes and `about`, lock the folder and write the settings and the beginning of the record.

        A torn last line is cut off the journal of a run to be resumed, before any process reads it.

        Args:
            inputs: the identity of everything the run reads (`inputs_of`); plugins are added to it.
            keys: the images, which are kept to tell later which ones are others.
            wanted: whether to keep a row that the run to be resumed wrote.

        Raises:
            UserError: the run to be resumed is damaged or began with other inputs, another run uses the folder, or it
                cannot be written to.
        """
        self.inputs = {**inputs, **self.inputs}
        listing = self.state / KEYS
        began_with = self.folder.inputs() if self.resuming else None
        if began_with is not None:
            images = other_images(read_json(listing)["keys"], keys) if listing.exists() else ""
            require_same(began_with, self.inputs, self.path, images)
        say("; ".join([self.compute.summary(), *about]), enabled=self.compute.is_main)
        self.compute.wait()  # every process has looked at the folder before one writes into it
        if self.compute.is_main:
            self.folder.start()
        self.enter_context(self.folder.running())
        if self.compute.is_main:
            if self.journal.path.exists():
                self.journal.keep(wanted)  # before the record, so that a damaged run is refused as it was
            write_json(listing, {"keys": list(keys)})
        self.enter_context(self._interruptible())
        self._record = RunRecord(self.folder, self.command, self.compute.describe(), self.inputs)
        if self.compute.is_main:
            self._record.write(finished=False)
        self.compute.wait()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C say how to go on, once there is something to go on with."""
        try:
            yield
        except KeyboardInterrupt:
            saved = any(path.name != KEYS for path in self.state.glob("[!.]*"))
            raise KeyboardInterrupt(CONTINUE if saved else NOTHING_SAVED) from None

    def finish(self, *, skipped: Sequence[str] = (), **facts: Any) -> None:
        """Write the end of the record, with the skipped files and other facts; remove what only a resumption needs."""
        if self.compute.is_main and self._record is not None:
            self._record.write(finished=True, **facts, skipped=list(skipped))
            if not self._keep_state:
                shutil.rmtree(self.state)
            if skipped:
                say(f"skipped {len(skipped)} files that cannot be decoded (named in {self._record.path.name})")
        self.compute.wait()
