from __future__ import annotations

import math

import pytest
import torch
from timm.layers import resample_abs_pos_embed

from rtok.models.resampling import resample_positions
from rtok.models.spec import Resampling

DINOV2 = Resampling(offset=0.1, antialias=False)


def positions(prefix: int) -> torch.Tensor:
    return torch.randn(1, prefix + 36, 8, generator=torch.Generator().manual_seed(0))


def cubic(values: torch.Tensor, at: float, a: float = -0.75) -> float:
    """Keys' cubic convolution with repeated borders: an independent reference."""
    total = 0.0
    for i in range(math.floor(at) - 1, math.floor(at) + 3):
        x = abs(at - i)
        near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
        total += (near if x <= 1 else far if x < 2 else 0.0) * float(values[min(max(i, 0), len(values) - 1)])
    return total


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("new", [(4, 4), (9, 4)])
def test_the_default_is_timms(prefix: int, new: tuple[int, int]) -> None:
    ours = resample_positions(positions(prefix), (6, 6), new, Resampling(), prefix=prefix)
    wanted = resample_abs_pos_embed(positions(prefix), list(new), [6, 6], num_prefix_tokens=prefix)
    assert torch.equal(ours, wanted)


@pytest.mark.parametrize("recipe", [DINOV2, Resampling()])
def test_the_native_grid_is_left_alone(recipe: Resampling) -> None:
    assert torch.equal(resample_positions(positions(1), (6, 6), (6, 6), recipe, prefix=1), positions(1))


def test_the_offset_samples_where_dinov2_does() -> None:
    column = torch.randn(37, generator=torch.Generator().manual_seed(0))
    grid = column.repeat_interleave(37).reshape(1, 37 * 37, 1)
    resampled = resample_positions(grid, (37, 37), (16, 16), DINOV2, prefix=0).reshape(16, 16)
    wanted = [cubic(column, (i + 0.5) * 37 / 16.1 - 0.5) for i in range(16)]
    assert torch.allclose(resampled, torch.tensor(wanted)[:, None].expand(16, 16), atol=1e-4)


def test_height_and_width_keep_their_order() -> None:
    ramp = torch.arange(6.0).repeat_interleave(6).reshape(1, 36, 1)
    tall = resample_positions(ramp, (6, 6), (12, 3), DINOV2, prefix=0).reshape(12, 3)
    assert torch.allclose(tall, tall[:, :1].expand(-1, 3), atol=1e-5)
    assert (tall[1:, 0] > tall[:-1, 0]).all()
