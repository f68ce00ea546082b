"""Weights in 16 bits, in every format that has checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rtok.conversion import convert
from rtok.errors import UserError
from tests.conversion.readers import BAR, by_timm, by_transformers

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov3_vits16"])
def test_half_types_are_read_back_within_their_rounding(robust: Any, tmp_path: Path, name: str, dtype: str) -> None:
    made = robust(name)
    official = name.partition("_")[0]
    done = {
        to: convert(made.path, tmp_path / out, to=to, dtype=dtype, backbone_weights=made.weights)
        for to, out in ((official, "official.pth"), ("timm", "timm.pth"), ("transformers", "transformers"))
    }
    states = {
        official: torch.load(tmp_path / "official.pth"),
        "timm": torch.load(tmp_path / "timm.pth"),
        "transformers": load_file(tmp_path / "transformers" / "model.safetensors"),
    }
    for to, state in states.items():
        kept = {"rope_embed.periods"}
        assert {tensor.dtype for key, tensor in state.items() if key not in kept} == {TYPES[dtype]}
        # a rounded weight moves by at most half a unit in the last place, and features here by a few of them
        unit = torch.finfo(TYPES[dtype]).eps
        assert done[to].difference < BAR and 0 < done[to].rounding < 10 * unit
    if official == "dinov3":  # no weights: rounded, they would turn every angle
        torch.testing.assert_close(states["dinov3"]["rope_embed.periods"], 100.0 ** (torch.arange(8) / 8))
    images = made.images(2)
    exact = made.features(images)
    key = "num_reg_tokens" if official == "dinov3" else "reg_tokens"
    architecture = "vit_small_patch16_dinov3_qkvb" if official == "dinov3" else "vit_small_patch14_reg4_dinov2"
    registers = made.model.spec.registers + 5
    for found in (
        by_timm(tmp_path / "timm.pth", architecture, made.normalized(images), **{key: registers}),
        by_transformers(tmp_path / "transformers", made.normalized(images), registers),
    ):
        assert (found - exact).abs().max() < 10 * unit


def test_numbers_that_a_type_cannot_hold_are_refused(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    state = load_file(made.weights)
    state["norm.weight"][3] = 1e5
    torch.save(state, tmp_path / "large.pth")
    torch.save({"rtokens": made.tokens.values}, tmp_path / "tokens.pt")
    arguments: Any = {"model": "dinov2_vits14", "backbone_weights": tmp_path / "large.pth", "dtype": "fp16"}
    with pytest.raises(UserError, match=r"'norm.weight' holds numbers up to 100000, .*: use bf16"):
        convert(tmp_path / "tokens.pt", tmp_path / "out.pth", **arguments)
