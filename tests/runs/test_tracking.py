"""What trackers are told of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import rtok
from rtok.config import Config
from rtok.results.scalars import scalars
from rtok.runs.tracking import Tracking


def test_an_evaluation_goes_to_tensorboard_with_its_figures(tiny: Callable[..., Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    found = rtok.evaluate(
        tiny("dinov2_vits14").load(image_size=28),
        images,
        attacks={"steps": 1},
        sanity={"images": 0},
        tracking="tensorboard",
        out=tmp_path / "run",
    )
    events = EventAccumulator(str(found.out / "tensorboard" / "rtok"))
    events.Reload()
    name = "pgd, steps 1/transfer/plain/cosine_to_plain".replace(",", "-")
    (event,) = events.Scalars(name)
    assert event.value == pytest.approx(found.rows[0]["cosine_to_plain"])
    assert "summary" in events.Tags()["images"]


def test_figures_are_files_where_a_tracker_takes_them(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), "red").save(tmp_path / "summary.png")
    sent: list[Any] = []
    trackers = [
        SimpleNamespace(name="mlflow", log_artifact=sent.append),
        SimpleNamespace(name="wandb", log_images=lambda images, step: sent.append(images["summary"].shape)),
    ]
    compute: Any = SimpleNamespace(accelerator=SimpleNamespace(is_main_process=True, trackers=trackers))
    about = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}}
    Tracking(Config.model_validate({**about, "tracking": "mlflow"}), compute).log_figures(tmp_path)
    assert sent == [str(tmp_path / "summary.png"), (1, 3, 4, 3)]
    Tracking(Config.model_validate(about), compute).log_figures(tmp_path)
    assert len(sent) == 2, "nothing without tracking"


def test_names_of_numbers_are_what_every_tracker_takes() -> None:
    row = {"attack": "pgd, eps 8/255", "threat": "query", "victim": "robust", "queries": 10, "start": "cold"}
    rows = [row | {"cosine": 0.5, "mse": None, "surrogate": "x"}]
    assert scalars("eval-features", rows) == {"pgd- eps 8-255/query -10 queries- cold-/robust/cosine": 0.5}
