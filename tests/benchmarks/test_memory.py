from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.memory import Memory, peaks


def test_storages_count_from_their_allocation_to_their_release() -> None:
    memory = Memory()
    with FakeTensorMode(), memory:
        a = torch.empty(1000)
        view = a.view(10, 100)
        b = view + 1  # a second storage
        assert memory.now == 8000
        del a
        assert memory.now == 8000  # the view keeps it
        del view
        assert memory.now == 4000
        b.add_(1)
    assert (memory.now, memory.peak) == (4000, 8000)


def test_a_training_step_needs_its_weights_and_less_with_each_option() -> None:
    weights, attack, update = peaks("dinov2_vits14", 56, 4, torch.float32)
    assert abs(weights / (21.6e6 * 4) - 1) < 0.02  # ViT-S/14 has 22 million parameters, 21.6 at 56 px
    assert weights < attack < update
    for option in ({"micro_batch": 1}, {"activation_checkpointing": True}):
        less = peaks("dinov2_vits14", 56, 4, torch.float32, **option)
        assert less[0] == weights
        assert less[2] - weights < 0.5 * (update - weights)
