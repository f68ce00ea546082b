"""What a command says of its data at its start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.config.sections import DataConfig
from rtok.setup import Setup


def start(settings: dict[str, Any]) -> Setup:
    return Setup.open(Config.model_validate(settings), Compute.start())


def test_a_command_says_what_it_found(settings: dict[str, Any], pictures: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(pictures, tmp_path / "own")
    (tmp_path / "own/x.raw").touch()
    settings["data"].update(root=str(tmp_path / "own"), limit=3)
    start(settings)
    assert (
        capsys.readouterr().out
        == "data: 3 of 7 images in 1 folder, 40 x 32 to 40 x 38 px, 1 file passed over (1 .raw)\n"
    )


def test_output_inside_the_data_is_said_and_never_read(
    settings: dict[str, Any], pictures: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pictures, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    settings["data"]["root"], settings["out"] = ".", "results/run"
    images = Path("results/run/images")
    images.mkdir(parents=True)
    shutil.copy(pictures / "picture0.png", images / "picture0-1.png")
    Path("results/run/attack.json").write_text("{}")
    assert len(start(settings).source) == 7
    assert capsys.readouterr().out.splitlines() == [
        "data: 7 images in 1 folder, 40 x 32 to 40 x 38 px, 1 folder of runs passed over (results/run)",
        "out: results/run lies inside data.root; no folder of a run is data",
    ]


def test_workers_default_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(cores: int, **options: Any) -> int:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
        return DataConfig(name="photos", **options).worker_count

    assert [workers(cores) for cores in (1, 4, 64)] == [1, 4, 8]
    assert [workers(4, workers=number) for number in (0, 16)] == [0, 16]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"holdout": 0}, "holdout"),
        ({"holdout": 1}, "holdout"),
        (
            {"name": "photos", "holdout": 0.5},
            "is for folder, hf, webdataset and folder-seg: 'photos' has splits of its own",
        ),
    ],
)
def test_a_wrong_holdout_is_refused(settings: dict[str, Any], data: dict[str, Any], message: str) -> None:
    settings["data"].update(data)
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(settings)
