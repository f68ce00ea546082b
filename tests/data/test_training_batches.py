"""Batches of a training: permutations without end."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch

from rtok.data.loader import training_batches
from rtok.errors import UserError
from rtok.seeding import image_seed
from tests.data.noise import RANDOM, SQUASH, WORKERS, Noise, assert_same, joined, keys


@pytest.mark.parametrize("length", [1, 3, 9, 21])
def test_every_visit_is_a_permutation_of_its_own(length: int) -> None:
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
def test_processes_share_the_same_sequence(processes: int, workers: int) -> None:
    options = {"batch_size": 4, "start": 0, "steps": 6, "seed": 1}
    whole = list(training_batches(Noise(9), RANDOM, **options))
    shares = [
        list(training_batches(Noise(9), RANDOM, **options, process=rank, processes=processes, workers=workers))
        for rank in range(processes)
    ]
    assert_same(joined(shares), whole)


@pytest.mark.parametrize("start", [1, 4, 7])
@pytest.mark.parametrize("workers", WORKERS)
def test_a_resumed_run_goes_on_with_the_tail(start: int, workers: int) -> None:
    options = {"batch_size": 4, "steps": 8, "seed": 1}
    whole = list(training_batches(Noise(9), RANDOM, start=0, **options))
    tail = training_batches(Noise(9), RANDOM, start=start, workers=workers, **options)
    assert len(tail) == 8 - start
    assert_same(list(tail), whole[start:])


def test_seeds_differ_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = (
        keys(list(training_batches(Noise(21), RANDOM, batch_size=7, start=0, steps=3, seed=seed))) for seed in (0, 1)
    )
    assert first != second
    assert torch.equal(torch.get_rng_state(), state)


def test_a_crop_is_a_function_of_seed_key_and_visit() -> None:
    source = Noise(3)
    crops = set()
    for batch in training_batches(source, RANDOM, batch_size=3, start=0, steps=3, seed=9):
        for key, visit, image in zip(batch.keys, batch.visits, batch.pixels, strict=True):
            picture = source.read(source.keys.index(key))
            assert torch.equal(image, RANDOM(picture, image_seed(9, key, "transform", visit)))
            crops.add(tuple(image.flatten().tolist()))
    assert len(crops) == 9  # every visit sees another part


@pytest.mark.parametrize("workers", WORKERS)
def test_the_next_picture_in_order_stands_in_for_a_broken_one(workers: int) -> None:
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
def test_nothing_but_broken_files_is_an_error(workers: int) -> None:
    source = Noise(3, broken=frozenset(range(3)))
    batches = training_batches(source, SQUASH, batch_size=2, start=0, steps=1, seed=0, on_error="skip", workers=workers)
    with pytest.raises(UserError, match=r"none of the 3 images can be decoded, for example dir/\d\.png"):
        list(batches)
