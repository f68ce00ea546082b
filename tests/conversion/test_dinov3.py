"""DINOv3's official format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtok.conversion import convert
from rtok.models.naming import dinov3
from rtok.models.weights import translate_back


def official_dinov3(made: Any, path: Path) -> dict[str, Tensor]:
    """An official file: its constants are such that only the file itself can be their source."""
    tensors = dict(made.model.vit.state_dict())
    state = translate_back(tensors, dinov3.official())
    mask = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(64)
    state |= {"mask_token": torch.rand(1, 64), "rope_embed.periods": torch.rand(8)}
    state |= {f"blocks.{i}.attn.qkv.bias_mask": mask for i in range(2)}
    torch.save(state, path)
    return state


def test_official_dinov3_tensors_are_kept_bit_for_bit(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov3_vits16")
    before = official_dinov3(made, tmp_path / "official.pth")
    out = tmp_path / "robust.pth"
    done = convert(made.path, out, to="dinov3", backbone_weights=tmp_path / "official.pth")
    after = torch.load(out, weights_only=True)
    registers = after.pop("storage_tokens")
    assert torch.equal(registers, torch.cat([before.pop("storage_tokens"), made.tokens.values], dim=1))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in after)
    assert done.files == [out]


def test_other_namings_become_official_dinov3(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov3_vits16")
    convert(made.path, tmp_path / "robust.pth", to="dinov3", backbone_weights=made.weights)
    state = torch.load(tmp_path / "robust.pth", weights_only=True)
    assert state.keys() == official_dinov3(made, tmp_path / "official.pth").keys()
    # the code base's formula: base 100, head width 32
    periods = 100.0 ** (2 * torch.arange(8) / 16)
    torch.testing.assert_close(state["rope_embed.periods"], periods)
    mask = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
    assert all(torch.equal(state[f"blocks.{i}.attn.qkv.bias_mask"], mask) for i in range(2))
