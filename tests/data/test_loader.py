"""Workers that load batches: broken files, Ctrl-C, pinned memory."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from rtok.data.decoding import DecodeError
from rtok.data.loader import Batch, evaluation_batches, training_batches
from tests.data.noise import SQUASH, WORKERS, Noise, keys


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", ["evaluation", "training"])
def test_a_broken_file_stops_the_run_with_its_name(workers: int, kind: str) -> None:
    source = Noise(4, broken=frozenset({2}))
    if kind == "evaluation":
        batches = evaluation_batches(source, SQUASH, batch_size=2, seed=0, workers=workers)
    else:
        batches = training_batches(source, SQUASH, batch_size=2, start=0, steps=2, seed=0, workers=workers)
    with pytest.raises(DecodeError) as caught:
        list(batches)
    assert type(caught.value) is DecodeError
    assert caught.value.file == "dir/2.png" and caught.value.reason == "the file is empty"
    assert "Traceback" not in str(caught.value)


def test_batches_before_a_broken_file_arrive() -> None:
    found = []
    with pytest.raises(DecodeError):
        for batch in evaluation_batches(Noise(6, broken=frozenset({4})), SQUASH, batch_size=2, seed=0, workers=2):
            found.append(batch.keys)
    assert found == [("dir/0.png", "dir/1.png"), ("dir/2.png", "dir/3.png")]


@dataclass(frozen=True)
class Interrupting(Noise):
    """Sends Ctrl-C to the worker that reads it."""

    def read(self, index: int) -> Image.Image:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return super().read(index)


def test_workers_leave_ctrl_c_to_the_main_process() -> None:
    found = list(evaluation_batches(Interrupting(3), SQUASH, batch_size=2, seed=0, workers=1))
    assert keys(found) == Noise(3).keys


def test_the_loader_can_pin_what_workers_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the GPU test below, without a GPU: torch finds nothing to pin unless the item tells it how."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor)
    plan = evaluation_batches(Noise(2), SQUASH, batch_size=2, seed=0)._plan
    loaded = pin_memory(plan[0])
    assert pinned == [(2, 3, 4, 4), (2,)]
    assert loaded.batch.keys == ("dir/0.png", "dir/1.png") and loaded.error is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", WORKERS)
def test_batches_for_a_gpu_lie_in_pinned_memory(workers: int) -> None:
    (batch,) = evaluation_batches(Noise(2), SQUASH, batch_size=2, seed=0, workers=workers)
    assert isinstance(batch, Batch) and batch.keys == ("dir/0.png", "dir/1.png")
    assert batch.pixels.is_pinned() and batch.labels.is_pinned()
