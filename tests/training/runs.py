"""Small trainings of every kind, and what is read of their folders."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rtok.config.schema import Config
from rtok.training.step import Trainer

# The smallest of each kind. Adam turns a gradient that is float noise into a whole step, so where parameters of runs
# that sum in another order are compared, and some gradients are near zero, SGD takes the steps.
KINDS: dict[str, dict[str, Any]] = {
    "tokens": {"count": 3},
    "deep-tokens": {"kind": "deep-tokens", "count": 2},
    "lora": {"kind": "lora", "rank": 2, "targets": ["qkv", "fc2"], "blocks": [0, 5]},
    "weights": {"kind": "weights"},
}

SGD = {"optimizer": "sgd", "lr": 0.05}

FILES = ["config.yaml", "curves.png", "metrics.jsonl", "rtokens.safetensors", "run.json", "state"]


def config(settings: dict[str, Any], **changes: Any) -> Config:
    base = {**settings, "tokens": KINDS["tokens"], "train": {"steps": 4, "batch_size": 4, "checkpoint_every": 1}}
    return Config.model_validate({**base, **changes})


def tokens(out: Path) -> Tensor:
    return load_file(out / "rtokens.safetensors")["rtokens"]


def trained(out: Path) -> dict[str, Tensor]:
    """The parameters of the only defense in a run's folder."""
    (file,) = out.glob("*.safetensors")
    return load_file(file)


def assert_same(out: Path, other: Path, *, atol: float = 0.0) -> None:
    one, two = trained(out), trained(other)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=atol)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# Of three steps: the radius is 0, half and whole; the rate is 1/1, then half a cosine that ends after the last.
SCHEDULES = {
    "threat": "adaptive",
    "invariance_weight": 0.25,
    "eps_schedule": {"hold": 1 / 3, "ramp": 2 / 3},
    "lr_schedule": "cosine",
}

# Everything whose state a resumed run, or each of several processes, must have. The best state is not the last one.
ALL = {
    **SCHEDULES,
    "threat": "mixed",
    "ema": 0.9,
    "flip": True,
    "lr": 0.3,
    "validate": {"every": 1, "images": 2, "attack": {"steps": 1}},
}


@contextmanager
def interrupted_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Expect that the user interrupts a training in here at this step."""
    take = Trainer.step

    def interrupted(self: Trainer, number: int, batch: Any) -> list[dict[str, Any]]:
        if number == step:
            raise KeyboardInterrupt
        return take(self, number, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", interrupted)
        yield


def wait_for_rows(out: Path, rows: int) -> None:
    """Wait until a training in another process has written so many rows of metrics, two minutes at most."""
    journal, deadline = out / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= rows):
        time.sleep(0.005)
