"""Trackers (TensorBoard, Weights & Biases, MLflow), through Accelerate: settings, numbers and figures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.runs.folder import flatten

if TYPE_CHECKING:
    from rtok.compute import Compute
    from rtok.config.schema import Config

PROJECT = "rtok"  # under which name trackers list the runs


class Tracking:
    """Where a run's numbers go besides its folder; without `tracking` in the config it does nothing."""

    def __init__(self, config: Config, compute: Compute) -> None:
        self.config, self.accelerator = config, compute.accelerator
        self.on = config.tracking != "none"

    def start(self) -> None:
        """Begin the tracker's run, with the settings."""
        if self.on:
            self.accelerator.init_trackers(PROJECT, config=_plain(self.config.to_dict()))

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers."""
        if self.on and values:
            self.accelerator.log(dict(values), step=step)

    def log_figures(self, folder: Path) -> None:
        """Log every PNG of a folder under its name."""
        if not self.on or not self.accelerator.is_main_process:
            return
        for tracker in self.accelerator.trackers:
            for path in sorted(folder.glob("*.png")):
                if hasattr(tracker, "log_artifact"):
                    tracker.log_artifact(str(path))
                else:
                    kwargs = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                    tracker.log_images({path.stem: _pixels(path)}, step=0, **kwargs)

    def finish(self) -> None:
        """End the tracker's run."""
        if self.on:
            self.accelerator.end_training()


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    kept = (int, float, str, bool)  # what every tracker takes
    return {key: value if isinstance(value, kept) else str(value) for key, value in flatten(settings).items()}


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))[None]
