"""What the benchmarks count."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import gemm_rate, largest_product, passes
from rtok.models import frozen


def test_products_through_onednn_count_like_torchs(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("dinov2_vits14")
    backbone, images = model.load(), torch.rand(2, 3, *model.load().image_size)
    found = passes(lambda: backbone(images))
    monkeypatch.setattr(frozen, "_operator", lambda: None)
    assert found == passes(lambda: backbone(images))
    # A token's products in a block's four layers, 12 D^2 multiplications and additions, and with N tokens' queries and
    # values, 2 N D; besides, the patches' embedding.
    B, N, D, P = len(images), 1 + backbone.grid[0] * backbone.grid[1], backbone.dim, backbone.patch_size
    attention = 2 * B * backbone.depth * 2 * N * N * D
    assert found[0] == 2 * B * (N * backbone.depth * 12 * D**2 + (N - 1) * 3 * P * P * D) + attention
    assert found[1] == found[0] + attention


def test_the_rate_is_of_the_faster_library(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")

    def slow(*_: Any) -> None:
        time.sleep(0.01)

    monkeypatch.setattr(measure, "onednn_product", slow)
    work, flops = largest_product(cpu, torch.float32, dim=8, rows=4)
    assert flops == 10 * 2 * 4 * 8 * 32
    begin = time.perf_counter()
    work()
    assert time.perf_counter() - begin < 0.05, "oneDNN is slower here"
    monkeypatch.setattr(torch, "mm", slow)
    assert gemm_rate(cpu, torch.float32, dim=8, rows=4) < flops / 0.1
