"""The few attacked images that figures show: crafted again, since an evaluation keeps no images."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rtok.data.loader import Batch
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.trial import Trial
from rtok.setup import Setup


class Examples(NamedTuple):
    """Images of one batch, clean and attacked, (b, 3, H, W) on the device."""

    batch: Batch
    images: Tensor
    adversarial: Tensor


def transfer_trial(evaluator: Evaluator) -> Trial | None:
    """Return the first trial whose images every victim was shown."""
    return next((trial for trial in evaluator.trials if trial.threat == "transfer"), None)


def attacked_examples(setup: Setup, evaluator: Evaluator, trial: Trial, keys: Collection[str]) -> Examples | None:
    """Craft the trial's first attack on these images again; None when none of them can be decoded."""
    batch = setup.examples(keys)
    return None if batch is None else attacked(evaluator, trial, batch)


def attacked(evaluator: Evaluator, trial: Trial, batch: Batch) -> Examples:
    """Craft the trial's first attack on a batch again."""
    images = batch.on(evaluator.device)
    return Examples(batch, images, evaluator.craft(trial.runs[0], batch, images).images)


def patch_cosines(features: Tensor, target: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Return the cosine of each patch's features (b, 1+P, D) to its target's, as maps (b, gh, gw)."""
    similarity = torch.cosine_similarity(features[:, 1:], target[:, 1:], dim=-1)
    return similarity.unflatten(1, grid).float().cpu().numpy()
