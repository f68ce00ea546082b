"""Every family in timm's format, loaded by timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import load_file

from rtok.checkpoints import read_checkpoint
from rtok.conversion import convert
from rtok.release import description
from tests.conversion.readers import BAR, by_timm


@pytest.mark.parametrize(
    ("name", "architecture", "kwargs"),
    [
        ("dinov2_vits14", "vit_small_patch14_reg4_dinov2", {"reg_tokens": 5}),
        ("dinov2_vits14_reg", "vit_small_patch14_reg4_dinov2", {"reg_tokens": 9}),
        ("dinov2_vitg14", "vit_giant_patch14_reg4_dinov2", {"reg_tokens": 5, "mlp_ratio": 5.5}),
        ("dinov3_vits16", "vit_small_patch16_dinov3_qkvb", {"num_reg_tokens": 9}),
        ("dinov3_vits16plus", "vit_small_plus_patch16_dinov3_qkvb", {"num_reg_tokens": 9}),
        ("deit3_small_patch16_224", "deit3_small_patch16_224", {"reg_tokens": 5}),
        ("timm:vit_base_patch16_224", "vit_base_patch16_224", {"reg_tokens": 5, "no_embed_class": True}),
    ],
)
def test_timm_computes_our_features(
    robust: Any, tmp_path: Path, name: str, architecture: str, kwargs: dict[str, Any]
) -> None:
    made = robust(name)
    out = tmp_path / "robust.safetensors"
    done = convert(made.path, out, to="timm", backbone_weights=made.weights)
    size = made.model.spec.native_size
    images = made.images()
    found = by_timm(out, architecture, made.normalized(images), img_size=size, **kwargs)
    assert (found - made.features(images)).abs().max() < BAR
    assert done.difference < BAR and done.usage.startswith(f'timm.create_model("{done.usage.split(chr(34))[1]}"')


def test_timm_at_another_size_has_our_positions(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    convert(made.path, tmp_path / "r.pth", to="timm", backbone_weights=made.weights, image_size=112)
    images = made.images(size=112)
    found = by_timm(
        tmp_path / "r.pth", "vit_small_patch14_reg4_dinov2", made.normalized(images), img_size=112, reg_tokens=5
    )
    assert (found - made.features(images)).abs().max() < BAR


def test_the_metadata_says_how_timm_builds_it(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14_reg")
    out = tmp_path / "r.safetensors"
    convert(made.path, out, to="timm", backbone_weights=made.weights)
    about = description(read_checkpoint(out).metadata)
    assert about is not None
    name, kwargs = about["timm"]
    timm.create_model(name, **kwargs).load_state_dict(load_file(out), strict=True)
