"""What the benchmarks count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.measure import passes
from rtok.models import frozen


def test_products_through_onednn_count_like_torchs(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("dinov2_vits14")
    backbone, images = model.load(), torch.rand(2, 3, *model.load().image_size)
    found = passes(lambda: backbone(images))
    monkeypatch.setattr(frozen, "_operator", lambda: None)
    assert found == passes(lambda: backbone(images))
    # products of a block's four layers: 12 D^2 multiplications and additions for each token
    tokens, width = 1 + backbone.grid[0] * backbone.grid[1], backbone.dim
    assert found[0] > 2 * len(images) * tokens * backbone.depth * 12 * width**2
