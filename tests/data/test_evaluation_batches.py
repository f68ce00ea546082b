"""Batches of an evaluation: every picture once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rtok.data.loader import evaluation_batches
from rtok.seeding import image_seed
from tests.data.noise import RANDOM, SQUASH, WORKERS, Noise, assert_same, joined, keys


@pytest.mark.parametrize("workers", WORKERS)
def test_every_picture_comes_once_with_all_that_belongs_to_it(workers: int) -> None:
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
def test_processes_share_every_batch(length: int, processes: int, batch_size: int) -> None:
    source = Noise(length)
    whole = list(evaluation_batches(source, SQUASH, batch_size=batch_size, seed=0))
    shares = [
        list(evaluation_batches(source, SQUASH, batch_size=batch_size, seed=0, process=process, processes=processes))
        for process in range(processes)
    ]
    assert keys(whole) == source.keys
    assert_same(joined(shares), whole)


def test_an_empty_share_is_an_empty_batch() -> None:
    (batch,) = evaluation_batches(Noise(1), SQUASH, batch_size=4, seed=0, process=1, processes=2)
    assert len(batch) == 0 and batch.keys == batch.groups == batch.visits == ()
    assert batch.images.shape == (0, 3, 4, 4) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (0,) and batch.labels.dtype == torch.int64


@pytest.mark.parametrize("workers", WORKERS)
def test_images_travel_in_8_bits_and_are_floats_where_they_are_used(workers: int) -> None:
    (batch,) = evaluation_batches(Noise(3), SQUASH, batch_size=3, seed=0, workers=workers)
    assert batch.pixels.dtype == torch.uint8 and batch.pixels.amax() > 1
    assert torch.equal(batch.images, batch.pixels.float() / 255)
    assert torch.equal(batch.on(torch.device("cpu")), batch.images)
    given = replace(batch, pixels=batch.images)  # such as a program's own
    assert torch.equal(given.images, batch.images)


def test_without_classes_there_are_no_labels() -> None:
    (batch,) = evaluation_batches(Noise(2, labeled=False), SQUASH, batch_size=4, seed=0)
    assert batch.labels is None


def test_finished_pictures_are_left_out_and_batches_stay_full() -> None:
    done = {"dir/0.png", "dir/3.png", "of/another/set.png"}
    batches = evaluation_batches(Noise(7), SQUASH, batch_size=2, seed=0, skip=done)
    assert [batch.keys for batch in batches] == [("dir/1.png", "dir/2.png"), ("dir/4.png", "dir/5.png"), ("dir/6.png",)]
    assert len(batches) == 3


def test_with_everything_finished_there_is_no_batch() -> None:
    batches = evaluation_batches(Noise(2), SQUASH, batch_size=2, seed=0, skip=Noise(2).keys)
    assert len(batches) == 0 and list(batches) == []


def test_a_picture_does_not_depend_on_its_company() -> None:
    source = Noise(9)
    alone = list(evaluation_batches(source, RANDOM, batch_size=1, seed=2))
    together = list(evaluation_batches(source, RANDOM, batch_size=9, seed=2))
    assert torch.equal(torch.cat([batch.images for batch in alone]), together[0].images)


@pytest.mark.parametrize("workers", WORKERS)
def test_skipped_files_are_absent_and_named(workers: int) -> None:
    source = Noise(6, broken=frozenset({1, 2, 3}))
    batches = evaluation_batches(source, SQUASH, batch_size=2, seed=0, workers=workers, on_error="skip")
    found = list(batches)
    assert [batch.keys for batch in found] == [("dir/0.png",), (), ("dir/4.png", "dir/5.png")]
    assert [batch.images.shape[0] for batch in found] == [1, 0, 2]
    assert found[2].labels.tolist() == [1, 2]
    assert batches.skipped == ["dir/1.png", "dir/2.png", "dir/3.png"]
    list(batches)
    assert batches.skipped == ["dir/1.png", "dir/2.png", "dir/3.png"]
