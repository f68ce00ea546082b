"""kill -9 at random moments, of every command: what --resume makes of it is what an undisturbed run makes.

`make test` tries two moments a command, `make test-kill` twenty. Moments are relative to the time between the run's
first file and its end, as measured.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.comparing import content
from tests.reliability.warm import Run, Warm

COMMANDS = ("train", "attack", "eval-features", "eval-class", "eval-seg")
# A training with all the state there is: several defenses of several tensors, their averages and best states.
CHANGES: dict[str, dict[str, Any]] = {
    "train": {
        "tokens": {"kind": "lora", "rank": 2, "seeds": [0, 1]},
        "train": {
            **{"steps": 12, "batch_size": 4, "checkpoint_every": 2, "threat": "mixed", "ema": 0.9},
            "validate": {"every": 5, "images": 2, "attack": {"steps": 1}},
        },
    }
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_run_resumes_to_the_same_files(command: str, warm: Warm, place: Any) -> None:
    kill_and_compare(command, warm, place, moments=2)


@pytest.mark.kill
@pytest.mark.parametrize("command", COMMANDS)
def test_twenty_killed_runs_resume_to_the_same_files(command: str, warm: Warm, place: Any) -> None:
    kill_and_compare(command, warm, place, moments=20)


def kill_and_compare(command: str, warm: Warm, place: Any, moments: int) -> None:
    draws = random.Random(f"{command} {moments}")
    changes = CHANGES.get(command, {})
    whole = warm.start(place(command, "whole", **changes), command, "--config", "config.yaml")
    begun = started(whole)
    assert whole.wait() == 0, (whole.out.parent / "output.txt").read_text()
    length = time.monotonic() - begun
    expected = content(whole.out)
    for i in range(moments):
        # One draw from each of as many equal parts, so that the moments spread over the whole run.
        share = (i + draws.random()) / moments
        folder = place(command, f"killed{i}", **changes)
        killed_at(share * length, warm, folder, command)
        code = warm.run(folder, command, "--config", "config.yaml", "--resume")
        assert code == 0, (share, (folder / "output.txt").read_text())
        found = content(folder / "run")
        assert found.keys() == expected.keys(), share
        assert [name for name in expected if found[name] != expected[name]] == [], share


def killed_at(moment: float, warm: Warm, folder: Path, command: str) -> None:
    """Kill a run so many seconds after its first file; sooner if it should have ended by then."""
    for attempt in range(10):
        run = warm.start(folder, command, "--config", "config.yaml", *["--overwrite"] * (attempt > 0))
        begun = started(run)
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        if run.kill() == -9:
            return
        moment *= 0.7
    pytest.fail("the run ended before it could be killed")


def started(run: Run) -> float:
    run.wait_for(run.out)
    return time.monotonic()
