"""A folder, a data set of `datasets` and tar files of the same pictures give the same results."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from rtok.config.schema import Config
from rtok.config.sections import DataConfig
from rtok.data import ImageSource, open_source
from rtok.data.loader import Batch, evaluation_batches
from rtok.data.transforms import Transform
from tests.data.forms import all_forms

FORMS = ("hf", "hf-parquet", "webdataset")
STREAM = "hf-stream"


@pytest.fixture(scope="module")
def roots(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("forms")
    for number, file in enumerate(sorted(pictures.iterdir())):
        target = base / "folder" / ("cat", "dog")[number % 2] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return all_forms(base / "folder", base)


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache/datasets")


def source_of(form: str, roots: dict[str, Path], **options: Any) -> ImageSource:
    if form == STREAM:
        form, options = "hf-parquet", {"streaming": True, "limit": 100, **options}
    return open_source(DataConfig(name=form.partition("-")[0], root=roots[form], **options), seed=0)


def batches(source: ImageSource, process: int, processes: int) -> list[Batch]:
    transform = Transform("random-crop", (28, 28))  # its box is drawn from the key
    shared = {"batch_size": 3, "seed": 0, "process": process, "processes": processes}
    return list(evaluation_batches(source, transform, **shared))


@pytest.mark.parametrize("form", [*FORMS, STREAM])
@pytest.mark.parametrize("processes", [1, 2])
def test_every_process_gets_the_same_images(form: str, processes: int, roots: dict[str, Path]) -> None:
    source, folder = source_of(form, roots), source_of("folder", roots)
    assert source.keys == folder.keys and source.groups == folder.groups
    for process in range(processes):
        for mine, its in zip(batches(source, process, processes), batches(folder, process, processes), strict=True):
            assert (mine.keys, mine.digests) == (its.keys, its.digests)
            assert torch.equal(mine.images, its.images)
            assert mine.labels is not None and its.labels is not None and torch.equal(mine.labels, its.labels)


@pytest.mark.parametrize("form", [*FORMS, STREAM])
def test_a_loaders_workers_get_a_copy(form: str, roots: dict[str, Path]) -> None:
    source = source_of(form, roots)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(3).tobytes() == source.read(3).tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_are_held_out_and_kept(form: str, roots: dict[str, Path]) -> None:
    for options in ({"holdout": 0.3}, {"holdout": 0.3, "split": "val"}, {"limit": 3}, {"split": "train"}):
        assert source_of(form, roots, **options).keys == source_of("folder", roots, **options).keys


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "results.json").read_text())["rows"]
    return found


def test_the_same_rows_in_one_process_and_in_two(
    settings: dict[str, Any], roots: dict[str, Path], tmp_path: Path, run_rtok: Callable[..., CompletedProcess[str]]
) -> None:
    from rtok.defenses import RobustnessTokens
    from rtok.evaluation import evaluate_features

    RobustnessTokens.draw(2, 384, backbone="dinov2_vits14").save(tmp_path / "rtokens.safetensors")
    settings |= {"threats": ["transfer"], "control_draws": 1, "defense": str(tmp_path / "rtokens.safetensors")}
    configs = {}
    for form in ("folder", "hf", "webdataset"):
        data = {"name": form, "root": str(roots[form]), "workers": 0}
        configs[form] = Config.model_validate({**settings, "data": data, "out": str(tmp_path / form)})
    streamed = {"name": "hf", "root": str(roots["hf-parquet"]), "workers": 0, "streaming": True, "limit": 9}
    configs[STREAM] = Config.model_validate({**settings, "data": streamed, "out": str(tmp_path / STREAM)})
    for form in ("folder", "webdataset", STREAM):
        evaluate_features(configs[form])
    wanted = rows(tmp_path / "folder")
    assert len(wanted) == 3
    assert rows(tmp_path / "webdataset") == rows(tmp_path / STREAM) == wanted
    (tmp_path / "hf.yaml").write_text(configs["hf"].to_yaml())
    done = run_rtok("eval-features", "--config", tmp_path / "hf.yaml", processes=2)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "hf") == wanted
