"""The learning rate and the radius, step by step."""

from __future__ import annotations

from math import cos, pi
from pathlib import Path
from typing import Any

import pytest

from rtok.config.schema import Config
from rtok.config.training import TrainConfig
from rtok.errors import UserError
from rtok.training import train
from rtok.training.schedules import learning_rate, radius


def over(steps: int, **settings: Any) -> tuple[list[float], list[float]]:
    section = TrainConfig.model_validate({"steps": steps, "lr": 1.0, **settings})
    numbers = range(1, steps + 1)
    return [learning_rate(section, step) for step in numbers], [radius(section, 8.0, step) for step in numbers]


def test_the_papers_rate_and_radius_never_change() -> None:
    assert over(4) == ([1.0] * 4, [8.0] * 4)


def test_the_cosine_begins_with_the_full_rate_where_the_warm_up_ends() -> None:
    rates, _ = over(6, warmup_steps=2, lr_schedule="cosine")
    assert rates == pytest.approx([0.5, 1, *((1 + cos(pi * k / 5)) / 2 for k in (1, 2, 3, 4))])
    rates, _ = over(4, lr_schedule="cosine")
    assert rates == pytest.approx([(1 + cos(pi * k / 4)) / 2 for k in range(4)])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [1.6, 3.2, 4.8, 6.4, 8, 8, 8, 8, 8, 8]),
        ({"hold": 0.2, "ramp": 0.4}, [0, 0, 2, 4, 6, 8, 8, 8, 8, 8]),
        ({"hold": 0.3, "ramp": 0}, [0, 0, 0, 8, 8, 8, 8, 8, 8, 8]),
        ({"hold": 0, "ramp": 1, "start": 3}, [3 + 0.5 * k for k in range(1, 11)]),
    ],
)
def test_the_radius_is_held_then_rises(schedule: dict[str, float], expected: list[float]) -> None:
    assert over(10, eps_schedule=schedule)[1] == pytest.approx(expected)


def test_schedules_do_not_depend_on_the_number_of_steps_but_for_their_scale() -> None:
    one = over(20, eps_schedule={"hold": 0.25, "ramp": 0.5})[1]
    assert over(40, eps_schedule={"hold": 0.25, "ramp": 0.5})[1][1::2] == pytest.approx(one)


@pytest.mark.parametrize("laid_out", [{"lr_schedule": "cosine"}, {"eps_schedule": {}}], ids=str)
def test_a_run_laid_out_over_its_steps_takes_no_more(settings: dict[str, Any], laid_out: dict[str, Any]) -> None:
    def config(steps: int) -> Config:
        section = {"steps": steps, "batch_size": 2, **laid_out}
        return Config.model_validate({**settings, "tokens": {"count": 1}, "train": section})

    train(config(2))
    out = Path(settings["out"])
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="is laid out over all of them"):
        train(config(3), resume=True)
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
