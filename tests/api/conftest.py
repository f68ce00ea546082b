from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def images() -> Tensor:
    """Six smooth 8-bit images of 28 x 28 pixels."""
    coarse = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return (nn.functional.interpolate(coarse, 28) * 255).round() / 255


@pytest.fixture
def backbone(tiny: Callable[..., Any]) -> Any:
    return tiny("dinov2_vits14").load(image_size=28)


@pytest.fixture
def classifier() -> nn.Module:
    """Five classes, and dropout: in training mode it answers at random."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Dropout(), nn.Flatten(), nn.Linear(8 * 49, 5))


@pytest.fixture
def labels(classifier: nn.Module, images: Tensor) -> Tensor:
    """What the classifier says of the images."""
    with torch.no_grad():
        found = classifier.eval()(images).argmax(1)
    classifier.train()
    return found
