"""Progress and messages on standard output.

A terminal gets a live bar, a file or a pipe gets plain lines, and only the main process prints. Output never ends a
run: if nobody reads it any more (`rtok train | head`), it is dropped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from rtok.activity import Activity

PLAIN_INTERVAL = 5.0  # seconds between two plain lines: the log of a day of training stays readable
WITHIN_INTERVAL = 30.0  # the same while one unit is under way: it says that the run goes on, and little else
# Seconds between two updates of the live bar. `advance` makes them: a thread could fail or block a fork.
_BAR_INTERVAL = 0.1
_NARROW = 72  # in narrower terminals the bar is left out, so that the numbers fit
_BAR_WIDTH = 12

_hushed = False  # `--quiet`


def is_main_process() -> bool:
    """Whether this is the process that prints: `RANK`, which torchrun and Accelerate set, is 0 or missing."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str, *, enabled: bool | None = None) -> None:
    """Print one plain line; `enabled` defaults to `is_main_process()`."""
    if _enabled(enabled):
        _write_line(text)


def open_console() -> Console:
    """Return a rich console on standard output that replaces characters the output's encoding lacks."""
    if isinstance(sys.stdout, TextIOWrapper):
        with suppress(OSError, ValueError):
            sys.stdout.reconfigure(errors="replace")
    return Console(file=sys.stdout, highlight=False)


def hush(quiet: bool = True) -> None:
    """Drop all that `guarded` would print from now on, or print it again."""
    global _hushed
    _hushed = quiet


def guarded(write: Callable[[], None]) -> None:
    """Call `write`, which prints; drop the output if standard output is closed or its reader is gone."""
    if sys.stdout is None or _hushed:
        return
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        # Later output must not fail either, so it goes to the null device.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def progress(
    label: str, total: int | None, unit: str = "step", *, start: int = 0, enabled: bool | None = None
) -> Progress:
    """Return a `Progress` over `total` units (`None`: unknown), of which a resumed run had done `start` before.

    with progress("train", total=50, unit="step") as bar:
        bar.advance(1, loss=0.123, robust=0.9)
    """
    return Progress(label, total, unit, start=start, enabled=_enabled(enabled))


class Progress:
    """A context manager that shows the progress of long work: its latest metrics, its rate and the time left.

    It watches what the work says of itself (`rtok.activity`), so that it moves while a unit takes long.
    """

    def __init__(self, label: str, total: int | None, unit: str, *, start: int, enabled: bool) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._start = start
        self.metrics: dict[str, float | int | str] = {}
        self._sums: dict[str, tuple[float, int]] = {}
        self._doing, self._ahead = "", 1
        self._activity, self._watching = Activity(self._look), ExitStack()
        self._enabled = enabled
        self._bar: RichProgress | None = None
        self._began = self._shown_at = time.monotonic()
        self._shown: int | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        if self._enabled:
            self._shown_at = self._began
            self._watching.enter_context(self._activity.watched())
            if _is_terminal(sys.stdout):
                guarded(self._open_bar)
        return self

    def observe(self, values: Mapping[str, Sequence[float]]) -> None:
        """Show the mean of all values that each name has had, with their number, from the next `advance` on."""
        for name, more in values.items():
            total, n = self._sums.get(name, (0.0, 0))
            total, n = self._sums[name] = total + sum(more), n + len(more)
            if n:
                self.metrics[name] = f"{_number(total / n)} (n={n})"

    def begin(self, what: str = "", *, amount: int = 1) -> None:
        """Begin so many units; `what` says at once what they are: `sanity 3/8: random search`."""
        self._doing, self._ahead = what, amount
        if self._enabled and what:
            self._show()

    def advance(self, amount: int = 1, **metrics: float | int | str) -> None:
        """Count `amount` units as done; `metrics` are shown until their names get newer values."""
        self.done += amount
        told, self._doing = self._doing and self._bar is None, ""  # a line has said so already
        self.metrics.update(metrics)
        if told or not self._enabled:
            return
        interval = PLAIN_INTERVAL if self._bar is None else _BAR_INTERVAL
        if self._shown is None or time.monotonic() - self._shown_at >= interval:
            self._show()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.close()
        if self._enabled and (self._shown != self.done or self._bar is not None):
            self._show()
        if self._bar is not None:
            guarded(self._bar.stop)
            self._bar = None

    def _open_bar(self) -> None:
        console = open_console()
        # If the line is too long for the terminal, its last numbers are cut off, not the label or the bar.
        label = Column(no_wrap=True, min_width=min(len(self.label), console.width // 3))
        bar = BarColumn(_BAR_WIDTH, table_column=Column(min_width=_BAR_WIDTH))
        status = Column(no_wrap=True, overflow="ellipsis")
        self._bar = RichProgress(
            TextColumn("{task.description}", style="bold", markup=False, table_column=label),
            *([bar] if console.width >= _NARROW else []),
            TextColumn("{task.fields[status]}", markup=False, table_column=status),
            console=console,
            auto_refresh=False,
        )
        self._bar.add_task(self.label, total=self.total, completed=self.done, status=self._status())
        self._bar.start()

    def _look(self) -> None:
        """Show what is done now, if it is time."""
        interval = WITHIN_INTERVAL if self._bar is None else _BAR_INTERVAL
        if time.monotonic() - self._shown_at >= interval:
            self._show()

    @property
    def _reached(self) -> float:
        """The units done, with a fraction for those under way."""
        return self.done + self._ahead * self._activity.share

    def _show(self) -> None:
        self._shown, self._shown_at = self.done, time.monotonic()
        bar, status = self._bar, self._status()
        if bar is None:
            _write_line(f"{self.label} {status}")
        else:
            guarded(lambda: bar.update(bar.task_ids[0], completed=self._reached, status=status, refresh=True))

    def _status(self) -> str:
        """Return for example `12/50 steps, ETA 0:38, attack, step 3/30, loss 0.123, 1.0 s/step`."""
        of_total, within = f"/{self.total}" if self.total is not None else "", self._activity.text
        if self._doing:
            return ", ".join(filter(None, [f"{self.done + 1}{of_total}: {self._doing}", within]))
        parts = [f"{self.done}{of_total} {self.unit}{'' if self.total == 1 else 's'}"]
        elapsed, count = time.monotonic() - self._began, self._reached - self._start
        rate = count / elapsed if elapsed > 0 else 0.0
        if rate and self.total is not None:
            left = (self.total - self._reached) / rate
            parts.append(f"ETA {clock(left)}" if self.done < self.total else f"took {clock(elapsed)}")
        parts += [within] if within else []
        parts += [f"{name} {_number(value)}" for name, value in self.metrics.items()]
        if rate:
            parts.append(_rate(rate, self.unit))
        return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _enabled(enabled: bool | None) -> bool:
    return is_main_process() if enabled is None else enabled


def _rate(per_second: float, unit: str) -> str:
    if per_second >= 1:
        return f"{per_second:.{0 if per_second >= 100 else 1}f} {unit}s/s"
    return f"{1 / per_second:.1f} s/{unit}"


def _number(value: float | int | str) -> str:
    """Return three decimals, or two significant digits where they would show zero (a learning rate)."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def _is_terminal(stream: IO[str] | None) -> bool:
    with suppress(OSError, ValueError):
        # isatty() is not enough: a terminal with TERM=dumb cannot move its cursor.
        return stream is not None and stream.isatty() and not Console(file=stream).is_dumb_terminal
    return False


def _write_line(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    printable = text.encode(encoding, "replace").decode(encoding)
    guarded(lambda: print(printable))
