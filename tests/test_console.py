"""Progress: one line in a pipe, a bar on a terminal, nothing elsewhere, and never a crash."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rtok import console
from rtok.activity import doing, rounds
from rtok.console import clock, is_main_process, progress, say

ROOT = Path(__file__).resolve().parents[2]
WORK = """
from rtok.console import progress, say
with progress("train", total=300, unit="step") as bar:
    for step in range(300):
        bar.advance(1, loss=0.5, robust=0.25)
    say("no [b]a.jpg[/b]")
say("done \\u2013")
"""


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves."""
    time = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: time[0])
    return time


def environment(**variables):
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **variables}


def test_plain_lines_are_the_first_one_every_interval_and_the_last(capsys, now):
    with progress("train", total=20, unit="step") as bar:
        for step in range(1, 21):
            now[0] += 1.0
            bar.advance(1, loss=1 / step, lr=1e-5)
    assert capsys.readouterr().out.splitlines() == [
        "train 1/20 steps, ETA 0:19, loss 1.000, lr 1.0e-05, 1.0 steps/s",
        "train 6/20 steps, ETA 0:14, loss 0.167, lr 1.0e-05, 1.0 steps/s",
        "train 11/20 steps, ETA 0:09, loss 0.091, lr 1.0e-05, 1.0 steps/s",
        "train 16/20 steps, ETA 0:04, loss 0.062, lr 1.0e-05, 1.0 steps/s",
        "train 20/20 steps, took 0:20, loss 0.050, lr 1.0e-05, 1.0 steps/s",
    ]


def test_means_are_over_all_values_and_say_how_many(capsys, now):
    with progress("eval", total=6, unit="image") as bar:
        for values in ([1.0, 1.0, 1.0, 0.0], [0.0], []):
            now[0] += 5.0
            bar.observe({"plain": values})
            bar.advance(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[2] for line in lines] == ["plain 0.750 (n=4)", "plain 0.600 (n=5)", "plain 0.600 (n=5)"]


def test_what_a_unit_does_is_said_at_once(capsys, now):
    with progress("sanity", total=2, unit="check") as bar:
        for name in ("gradients", "random search"):
            bar.begin(name)
            now[0] += 9.0
            bar.advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["sanity 1/2: gradients", "sanity 2/2: random search", "sanity 2/2 checks, took 0:18, 9.0 s/check"]


def test_progress_moves_inside_of_a_unit_at_a_bounded_rate(capsys, now):
    with progress("eval", total=16, unit="image") as bar:
        for _ in range(2):
            bar.begin(amount=8)
            with doing("adaptive", 0, 0.5):
                for _ in rounds(range(100), "step"):
                    now[0] += 1.0
            now[0] += 100.0
            bar.advance(8, robust=0.5)
    assert capsys.readouterr().out.splitlines() == [
        "eval 0/16 images, ETA 6:10, adaptive, step 31/100, 25.0 s/image",
        "eval 0/16 images, ETA 5:40, adaptive, step 61/100, 25.0 s/image",
        "eval 0/16 images, ETA 5:10, adaptive, step 91/100, 25.0 s/image",
        "eval 8/16 images, ETA 3:20, robust 0.500, 25.0 s/image",
        "eval 8/16 images, ETA 2:50, adaptive, step 31/100, robust 0.500, 25.0 s/image",
        "eval 8/16 images, ETA 2:20, adaptive, step 61/100, robust 0.500, 25.0 s/image",
        "eval 8/16 images, ETA 1:50, adaptive, step 91/100, robust 0.500, 25.0 s/image",
        "eval 16/16 images, took 6:40, robust 0.500, 25.0 s/image",
    ]


def test_what_a_unit_does_is_said_with_where_it_is(capsys, now):
    with progress("sanity", total=2, unit="check") as bar:
        bar.begin("random search")
        for _ in rounds(range(1, 101), "query"):
            now[0] += 1.0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "sanity 1/2: random search",
        "sanity 1/2: random search, query 31/100",
    ]


def test_a_resumed_run_counts_from_its_start_and_times_only_its_own_steps(capsys, now):
    with progress("train", total=50, unit="step", start=40) as bar:
        now[0] += 30.0
        bar.advance(2)
    assert capsys.readouterr().out == "train 42/50 steps, ETA 2:00, 15.0 s/step\n"


def test_an_unknown_total_and_an_interrupted_run_still_end_with_a_line(capsys, now):
    with pytest.raises(KeyboardInterrupt), progress("read", total=None, unit="image") as bar:
        now[0] += 1.0
        bar.advance(8)
        bar.advance(8)
        raise KeyboardInterrupt
    assert capsys.readouterr().out.splitlines()[-1] == "read 16 images, 16.0 images/s"


def test_only_the_main_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    with progress("train", total=2) as bar:
        bar.advance(2)
    say("hello")
    assert capsys.readouterr().out == ""
    say("hello", enabled=True)
    assert capsys.readouterr().out == "hello\n"


def test_durations():
    assert [clock(seconds) for seconds in (0, 59.6, 3600, 86399)] == ["0:00", "1:00", "1:00:00", "23:59:59"]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_terminal_gets_a_bar_that_fits_it(columns):
    theirs, ours = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WORK],
        stdout=ours,
        stderr=subprocess.PIPE,
        env=environment(COLUMNS=str(columns), TERM="xterm-256color"),
    )
    os.close(ours)
    printed = b""
    while True:
        try:
            chunk = os.read(theirs, 65536)
        except OSError:  # how Linux says that the other end has closed
            break
        if not chunk:
            break
        printed += chunk
    os.close(theirs)
    assert process.wait() == 0 and process.stderr.read() == b""
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode()))
    assert all(len(line) <= columns for line in lines if line.startswith("train"))
    last = [line for line in lines if line.startswith("train")][-1]
    assert "300/300" in last
    assert ("━" in last) == (columns >= 72)
    assert any(line == "no [b]a.jpg[/b]" for line in lines)


@pytest.mark.parametrize(
    "shell",
    [
        '"$0" -c "$1print(1, flush=True)" | true; test ${PIPESTATUS[0]} = 0',
        '"$0" -c "$1" >&-',
        '"$0" -c "$1" > /dev/full',
        'PYTHONIOENCODING=ascii "$0" -c "$1" > /dev/null',
    ],
    ids=["reader gone", "stdout closed", "disk full", "ascii"],
)
def test_output_that_nobody_can_take_does_not_end_a_run(shell):
    done = subprocess.run(["bash", "-c", shell, sys.executable, WORK], capture_output=True, env=environment())
    assert (done.returncode, done.stderr) == (0, b"")


def test_heavy_packages_stay_out():
    code = "import sys, rtok.console, rtok.reporting.tables;print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout == "set()\n"


def test_no_color_is_obeyed(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for colors in (True, False):
        console.open_console().print("[cyan]number")
        assert ("\x1b[36m" in capsys.readouterr().out) is colors
        monkeypatch.setenv("NO_COLOR", "1")
