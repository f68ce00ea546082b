"""DINOv2's recipe for linear segmentation heads, as mmseg configs; `configs/mmseg` says the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtok.data.masks import IGNORE

OPTIMIZER: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-4, "betas": (0.9, 0.999)}
# DINOv2 warms up for 1,500 of 40,000 iterations, from a millionth of the learning rate.
WARMUP = 1500 / 40_000
WARMUP_START = 1e-6
UNLIMITED = 99_999_999  # the long side: only the short side decides


def schedule(steps: int) -> list[dict[str, Any]]:
    """Return mmengine's schedulers: linear warm-up, then linearly (poly of power 1) down to 0."""
    warmup = round(WARMUP * steps)
    rise = {"type": "LinearLR", "start_factor": WARMUP_START, "begin": 0, "end": warmup, "by_epoch": False}
    fall = {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "begin": warmup, "end": steps, "by_epoch": False}
    return [rise, fall] if warmup else [fall]


def augmentation(short_side: int, window: int, mean: Sequence[float]) -> list[dict[str, Any]]:
    """Return mmseg's transforms from a picture (BGR) and its mask to a crop; `mean` (RGB) is the padding."""
    return [
        {"type": "RandomResize", "scale": (UNLIMITED, short_side), "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (window, window), "cat_max_ratio": 0.75},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        {
            "type": "Pad",
            "size": (window, window),
            "pad_val": {"img": tuple(round(255 * value) for value in reversed(mean)), "seg": IGNORE},
        },
        {"type": "PackSegInputs"},
    ]
