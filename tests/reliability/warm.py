"""A process that has imported all that rtok needs and runs its command line in forks, so that a run starts at once.

Run as a script it reads a line of JSON per run, {"arguments", "folder", "file_size"}, answers with the process id at
once and with its exit status when it has ended. What the run prints goes to FOLDER/output.txt.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Run:
    """A run that is going on in a fork."""

    warm: Warm
    pid: int
    handle: int  # of the process itself: its id may soon be another's
    out: Path

    def wait(self) -> int:
        """Return its exit status: -9 when it was killed."""
        os.close(self.handle)
        self.warm.last = None
        return int(self.warm.answer())

    def kill(self) -> int:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        return self.wait()

    def wait_for(self, path: Path, seconds: float = 120) -> None:
        """Wait until a file is there or the run has ended."""
        deadline = time.monotonic() + seconds
        while not (path.exists() or self.ended()) and time.monotonic() < deadline:
            time.sleep(0.0005)

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def ended(self) -> bool:
        return bool(select.select([self.handle], [], [], 0)[0])


class Warm:
    """The warm process, for one run at a time."""

    def __init__(self) -> None:
        self.last: Run | None = None
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.answer() == "ready"

    def start(self, folder: Path, *arguments: str, file_size: int | None = None) -> Run:
        """Start `rtok ARGUMENTS` in a folder; no file may grow beyond `file_size` bytes."""
        self.stop()
        assert self.process.stdin is not None
        request = {"arguments": arguments, "folder": str(folder), "file_size": file_size}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        pid = int(self.answer())
        run = Run(self, pid, os.pidfd_open(pid), folder / "run")
        self.last = run
        print(file=self.process.stdin, flush=True)
        return run

    def run(self, folder: Path, *arguments: str, file_size: int | None = None) -> int:
        return self.start(folder, *arguments, file_size=file_size).wait()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        """End a run that a failed test has left."""
        if self.last is not None:
            self.last.kill()

    def __enter__(self) -> Warm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.process.kill()
        self.process.wait()


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")  # what is imported may print
    os.dup2(2, 1)
    warm_up()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            os.setsid()
            run(**request)
        print(pid, file=answers, flush=True)
        sys.stdin.readline()  # it has its handle of the process: until then a zombie keeps the id
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def warm_up() -> None:
    import torch

    torch.set_num_threads(1)
    import rtok.cli.app
    import rtok.conversion
    import rtok.evaluation
    import rtok.evaluation.tasks.segmentation.task
    import rtok.heads.segmentation.fit
    import rtok.reporting.figures.curves
    import rtok.reporting.figures.examples
    import rtok.reporting.figures.segmentation
    import rtok.reporting.figures.summary
    import rtok.training  # noqa: F401
    from rtok.heads.segmentation import engine

    engine.start()


def run(arguments: Sequence[str], folder: str, file_size: int | None) -> None:
    from rtok.cli.app import main

    code: object = 1
    try:
        os.chdir(folder)
        log = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        sys.argv = ["rtok", *arguments]
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve()
