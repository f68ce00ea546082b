"""The features that heads read, for a whole data set: computed once and kept on disk until the heads are fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rtok.compute import Compute
from rtok.console import progress
from rtok.files import atomic_path
from rtok.heads.linear import Layout

if TYPE_CHECKING:
    from rtok.data.loader import Batches
    from rtok.models.defended import Features


class Reading(NamedTuple):
    """Whose features, read in a layout."""

    model: Features
    layout: Layout


def extract_features(
    readings: Mapping[str, Reading],
    keys: Sequence[str],
    batches_without: Callable[[set[str]], Batches],
    folder: Path,
    compute: Compute,
) -> dict[str, Tensor]:
    """Compute every reading of every image in one pass; rows that an interrupted run finished are kept.

    Args:
        keys: the images, in the order of the rows.
        batches_without: returns this process's share of the images whose keys are not in the given set.
        folder: where the files `features-NAME.npy` are; all processes write their rows into the same files.

    Returns:
        The features (N, width) of each reading, float32 on the CPU; rows of skipped images are NaN.
    """
    files = {name: folder / f"features-{name}.npy" for name in readings}
    if compute.is_main:
        for name, reading in readings.items():
            shape = len(keys), reading.layout.width(reading.model.backbone)
            if not _usable(files[name], shape):
                _create(files[name], shape)
    compute.wait()
    arrays = {name: np.load(file, mmap_mode="r+") for name, file in files.items()}
    finished = np.logical_and.reduce([~np.isnan(array).any(axis=1) for array in arrays.values()])
    done = {key for key, whole in zip(keys, finished, strict=True) if whole}
    compute.wait()  # nobody writes before all processes have seen what is done
    row = {key: i for i, key in enumerate(keys)}
    with progress("features for heads", total=len(keys), unit="image", enabled=compute.is_main, start=len(done)) as bar:
        for batch in batches_without(done):
            if batch.keys:
                images = batch.on(compute.device)
                rows = [row[key] for key in batch.keys]
                for name, reading in readings.items():
                    with torch.no_grad():
                        found = reading.layout.inputs(reading.model, images)
                    arrays[name][rows] = found.float().cpu().numpy()
            bar.advance(len(batch) * compute.processes)
    compute.wait()
    return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


def _usable(file: Path, shape: tuple[int, int]) -> bool:
    """Whether an interrupted run has left this file, with the same shape."""
    with suppress(OSError, ValueError):
        return bool(np.load(file, mmap_mode="r").shape == shape)
    return False


def _create(file: Path, shape: tuple[int, int]) -> None:
    """Create a file of NaN, which marks the rows that are still to be computed.

    It is written and not mapped: on a full disk writing raises an error, but mapping kills the process.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    row = np.full(shape[1], np.nan, "<f4").tobytes()
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(shape[0]):
            stream.write(row)
