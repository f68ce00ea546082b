"""What long work is at, told from inside: `adaptive, robust (lora-8), restart 2/5, step 40/100`.

A loop says which of its rounds has begun, and nothing else: no tensor is read, and where nobody watches it costs
nothing. The console watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple

_watched: ContextVar[Activity | None] = ContextVar("watched", default=None)


def doing(text: str, begin: float = 0.0, end: float = 1.0) -> AbstractContextManager[None]:
    """Say that a part of the work at hand is under way, from the share `begin` of that work to the share `end`."""
    activity = _watched.get()
    return nullcontext() if activity is None else activity.part(text, begin, end)


def rounds(numbers: range, name: str) -> Iterable[int]:
    """Return `numbers` to iterate over; each round says which it is, `step 40/100`, unless there is one only."""
    activity = _watched.get()
    return numbers if activity is None or len(numbers) < 2 else activity.rounds(numbers, name)


class _Part(NamedTuple):
    text: str
    begin: float
    end: float


class Activity:
    """The parts that are under way, the outermost first, for one who watches.

    Args:
        changed: called whenever a part begins.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._parts: list[_Part] = []

    @property
    def text(self) -> str:
        """The parts in words, `""` where nothing is told."""
        return ", ".join(part.text for part in self._parts)

    @property
    def share(self) -> float:
        """How much of the whole is done, in [0, 1], by what each part is said to be of the one around it."""
        done, width = 0.0, 1.0
        for part in self._parts:
            done, width = done + width * part.begin, width * (part.end - part.begin)
        return done

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Be told of what is done in this context; who watched before is told nothing of it."""
        token = _watched.set(self)
        try:
            yield
        finally:
            _watched.reset(token)

    @contextmanager
    def part(self, text: str, begin: float, end: float) -> Iterator[None]:
        """Be inside a part."""
        depth = len(self._parts)
        self._enter(depth, _Part(text, begin, end))
        try:
            yield
        finally:
            del self._parts[depth:]

    def rounds(self, numbers: range, name: str) -> Iterator[int]:
        """Be inside one part of equal length after the other."""
        depth, count = len(self._parts), len(numbers)
        try:
            for done, number in enumerate(numbers):
                self._enter(depth, _Part(f"{name} {done + 1}/{count}", done / count, (done + 1) / count))
                yield number
        finally:
            del self._parts[depth:]

    def _enter(self, depth: int, part: _Part) -> None:
        self._parts[depth:] = [part]
        self._changed()
