from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from rtok.data.decoding import DecodeError
from rtok.data.loader import Batch, evaluation_batches, training_batches
from rtok.data.transforms import Transform
from rtok.errors import UserError
from rtok.seeding import image_seed

SQUASH = Transform("squash", (4, 4))
RANDOM = Transform("random-crop", (4, 4))
WORKERS = [0, 2]


@dataclass(frozen=True)
class Noise:
    """Pictures of noise, each its own; those in `broken` cannot be decoded."""

    count: int
    broken: frozenset[int] = frozenset()
    labelled: bool = True
    class_names: Sequence[str] | None = field(default=None)

    @property
    def keys(self) -> list[str]:
        return [f"dir/{index}.png" for index in range(self.count)]

    @property
    def labels(self) -> list[int] | None:
        return [index % 3 for index in range(self.count)] if self.labelled else None

    @property
    def groups(self) -> list[str]:
        return [f"photo {index // 2}" for index in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image.Image:
        if index in self.broken:
            raise DecodeError(self.keys[index], "the file is empty")
        pixels = np.random.default_rng(index).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


def keys(batches: Sequence[Batch]) -> list[str]:
    return list(chain.from_iterable(batch.keys for batch in batches))


def assert_same(left: Sequence[Batch], right: Sequence[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert (a.keys, a.groups, a.visits) == (b.keys, b.groups, b.visits)
        assert torch.equal(a.images, b.images)
        assert (a.labels is None) == (b.labels is None)
        assert a.labels is None or torch.equal(a.labels, b.labels)


def joined(shares: Sequence[Sequence[Batch]]) -> list[Batch]:
    """Put the processes' shares of every global batch together again."""
    return [
        Batch(
            pixels=torch.cat([part.pixels for part in parts]),
            keys=tuple(keys(parts)),
            labels=torch.cat([part.labels for part in parts]),
            groups=tuple(chain.from_iterable(part.groups for part in parts)),
            visits=tuple(chain.from_iterable(part.visits for part in parts)),
        )
        for parts in zip(*shares, strict=True)
    ]


class TestEvaluation:
    @pytest.mark.parametrize("workers", WORKERS)
    def test_every_picture_comes_once_with_all_that_belongs_to_it(self, workers: int) -> None:
        source = Noise(7)
        batches = evaluation_batches(source, RANDOM, batch_size=3, seed=5, workers=workers)
        found = list(batches)
        assert len(batches) == 3 and [len(batch) for batch in found] == [3, 3, 1]
        assert keys(found) == source.keys and batches.skipped == []
        (whole,) = joined([[batch] for batch in found])
        assert whole.groups == tuple(source.groups) and whole.visits == (0,) * 7
        assert whole.labels.tolist() == source.labels
        for index, key in enumerate(source.keys):
            expected = RANDOM(source.read(index), image_seed(5, key, "transform", 0))
            assert torch.equal(whole.pixels[index], expected)

    @pytest.mark.parametrize("length", [1, 3, 9, 21])
    @pytest.mark.parametrize("processes", [1, 2, 3])
    @pytest.mark.parametrize("batch_size", [1, 4, 8])
    def test_processes_share_every_batch(self, length: int, processes: int, batch_size: int) -> None:
        source = Noise(length)
        whole = list(evaluation_batches(source, SQUASH, batch_size=batch_size, seed=0))
        shares = [
            list(
                evaluation_batches(source, SQUASH, batch_size=batch_size, seed=0, process=process, processes=processes)
            )
            for process in range(processes)
        ]
        assert keys(whole) == source.keys
        assert_same(joined(shares), whole)

    def test_an_empty_share_is_an_empty_batch(self) -> None:
        (batch,) = evaluation_batches(Noise(1), SQUASH, batch_size=4, seed=0, process=1, processes=2)
        assert len(batch) == 0 and batch.keys == batch.groups == batch.visits == ()
        assert batch.images.shape == (0, 3, 4, 4) and batch.images.dtype == torch.float32
        assert batch.labels.shape == (0,) and batch.labels.dtype == torch.int64

    @pytest.mark.parametrize("workers", WORKERS)
    def test_images_travel_in_8_bits_and_are_floats_where_they_are_used(self, workers: int) -> None:
        (batch,) = evaluation_batches(Noise(3), SQUASH, batch_size=3, seed=0, workers=workers)
        assert batch.pixels.dtype == torch.uint8 and batch.pixels.amax() > 1
        assert torch.equal(batch.images, batch.pixels.float() / 255)
        assert torch.equal(batch.on(torch.device("cpu")), batch.images)
        given = replace(batch, pixels=batch.images)  # such as a program's own
        assert torch.equal(given.images, batch.images)

    def test_without_classes_there_are_no_labels(self) -> None:
        (batch,) = evaluation_batches(Noise(2, labelled=False), SQUASH, batch_size=4, seed=0)
        assert batch.labels is None

    def test_finished_pictures_are_left_out_and_batches_stay_full(self) -> None:
        done = {"dir/0.png", "dir/3.png", "of/another/set.png"}
        batches = evaluation_batches(Noise(7), SQUASH, batch_size=2, seed=0, skip=done)
        assert [batch.keys for batch in batches] == [
            ("dir/1.png", "dir/2.png"),
            ("dir/4.png", "dir/5.png"),
            ("dir/6.png",),
        ]
        assert len(batches) == 3

    def test_with_everything_finished_there_is_no_batch(self) -> None:
        batches = evaluation_batches(Noise(2), SQUASH, batch_size=2, seed=0, skip=Noise(2).keys)
        assert len(batches) == 0 and list(batches) == []

    def test_a_picture_does_not_depend_on_its_company(self) -> None:
        source = Noise(9)
        alone = list(evaluation_batches(source, RANDOM, batch_size=1, seed=2))
        together = list(evaluation_batches(source, RANDOM, batch_size=9, seed=2))
        assert torch.equal(torch.cat([batch.images for batch in alone]), together[0].images)

    @pytest.mark.parametrize("workers", WORKERS)
    def test_skipped_files_are_absent_and_named(self, workers: int) -> None:
        source = Noise(6, broken=frozenset({1, 2, 3}))
        batches = evaluation_batches(source, SQUASH, batch_size=2, seed=0, workers=workers, on_error="skip")
        found = list(batches)
        assert [batch.keys for batch in found] == [("dir/0.png",), (), ("dir/4.png", "dir/5.png")]
        assert [batch.images.shape[0] for batch in found] == [1, 0, 2]
        assert found[2].labels.tolist() == [1, 2]
        assert batches.skipped == ["dir/1.png", "dir/2.png", "dir/3.png"]
        list(batches)
        assert batches.skipped == ["dir/1.png", "dir/2.png", "dir/3.png"]


class TestTraining:
    @pytest.mark.parametrize("length", [1, 3, 9, 21])
    def test_every_visit_is_a_permutation_of_its_own(self, length: int) -> None:
        batch_size, visits = 4, 4
        steps = -(-visits * length // batch_size)
        found = list(training_batches(Noise(length), SQUASH, batch_size=batch_size, start=0, steps=steps, seed=0))
        assert [len(batch) for batch in found] == [batch_size] * steps
        pairs = list(chain.from_iterable(zip(batch.visits, batch.keys, strict=True) for batch in found))
        orders = [[key for visit, key in pairs if visit == number] for number in range(visits)]
        assert [visit for visit, _ in pairs] == sorted(visit for visit, _ in pairs)
        assert all(Counter(order) == Counter(Noise(length).keys) for order in orders)
        if length > 3:
            assert len({tuple(order) for order in orders}) == visits

    @pytest.mark.parametrize("processes", [2, 3])
    @pytest.mark.parametrize("workers", WORKERS)
    def test_processes_share_the_same_sequence(self, processes: int, workers: int) -> None:
        options = {"batch_size": 4, "start": 0, "steps": 6, "seed": 1}
        whole = list(training_batches(Noise(9), RANDOM, **options))
        shares = [
            list(training_batches(Noise(9), RANDOM, **options, process=rank, processes=processes, workers=workers))
            for rank in range(processes)
        ]
        assert_same(joined(shares), whole)

    @pytest.mark.parametrize("start", [1, 4, 7])
    @pytest.mark.parametrize("workers", WORKERS)
    def test_a_resumed_run_goes_on_with_the_tail(self, start: int, workers: int) -> None:
        options = {"batch_size": 4, "steps": 8, "seed": 1}
        whole = list(training_batches(Noise(9), RANDOM, start=0, **options))
        tail = training_batches(Noise(9), RANDOM, start=start, workers=workers, **options)
        assert len(tail) == 8 - start
        assert_same(list(tail), whole[start:])

    def test_seeds_differ_and_leave_the_global_generator_alone(self) -> None:
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first, second = (
            keys(list(training_batches(Noise(21), RANDOM, batch_size=7, start=0, steps=3, seed=seed)))
            for seed in (0, 1)
        )
        assert first != second
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_crop_is_a_function_of_seed_key_and_visit(self) -> None:
        source = Noise(3)
        crops = set()
        for batch in training_batches(source, RANDOM, batch_size=3, start=0, steps=3, seed=9):
            for key, visit, image in zip(batch.keys, batch.visits, batch.pixels, strict=True):
                picture = source.read(source.keys.index(key))
                assert torch.equal(image, RANDOM(picture, image_seed(9, key, "transform", visit)))
                crops.add(tuple(image.flatten().tolist()))
        assert len(crops) == 9  # every visit sees another part

    @pytest.mark.parametrize("workers", WORKERS)
    def test_the_next_picture_in_order_stands_in_for_a_broken_one(self, workers: int) -> None:
        options = {"batch_size": 4, "start": 0, "steps": 4, "seed": 1}
        sequence = keys(list(training_batches(Noise(8), SQUASH, **options)))
        broken = {sequence[0], sequence[1], sequence[7], sequence[11]}
        source = Noise(8, broken=frozenset(Noise(8).keys.index(key) for key in broken))
        batches = training_batches(source, SQUASH, workers=workers, on_error="skip", **options)
        found = list(batches)
        expected = []
        for visit in (sequence[:8], sequence[8:]):
            for place in range(8):
                expected.append(next(key for key in visit[place:] + visit[:place] if key not in broken))
        assert keys(found) == expected
        assert [len(batch) for batch in found] == [4] * 4
        assert Counter(batches.skipped) == Counter(broken)
        shares = [
            list(training_batches(source, SQUASH, on_error="skip", process=rank, processes=2, **options))
            for rank in range(2)
        ]
        assert_same(joined(shares), found)

    @pytest.mark.parametrize("workers", WORKERS)
    def test_nothing_but_broken_files_is_an_error(self, workers: int) -> None:
        source = Noise(3, broken=frozenset(range(3)))
        batches = training_batches(
            source, SQUASH, batch_size=2, start=0, steps=1, seed=0, on_error="skip", workers=workers
        )
        with pytest.raises(UserError, match=r"none of the 3 images can be decoded, for example dir/\d\.png"):
            list(batches)


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
