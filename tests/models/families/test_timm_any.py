from __future__ import annotations

from typing import Any

import pytest
import torch

from rtok.errors import UserError
from rtok.models.registry import find


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "SwinTransformer"),
        ("resnet18", "ResNet"),
        ("vit_base_patch16_siglip_224", "no class token"),
        ("vit_base_r50_s16_224", "HybridEmbed"),
        ("eva02_tiny_patch14_224", "no norm after its last block"),
        ("vit_small_patch16_rope_mixed_224", "rotary positions"),
        ("vit_tiny_patch16_22", "Did you mean 'vit_tiny_patch16_224'"),
        ("vit_tiny_patch16_224.laion", "it has augreg_in21k, augreg_in21k_ft_in1k"),
    ],
)
def test_what_is_not_a_plain_vit_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        find(f"timm:{name}")


@pytest.mark.parametrize(
    ("name", "patch_size", "registers"),
    [
        ("vit_tiny_patch16_224", 16, 0),
        ("vit_small_patch8_224", 8, 0),
        ("vit_small_patch32_224", 32, 0),
        ("deit_tiny_distilled_patch16_224", 16, 1),  # its distillation token is left out of the features
    ],
)
def test_plain_vits_are_taken(tiny: Any, name: str, patch_size: int, registers: int) -> None:
    model = tiny(f"timm:{name}")
    assert (model.spec.patch_size, model.spec.registers) == (patch_size, registers)
    backbone = model.load(image_size=(2 * patch_size, 3 * patch_size))
    features = backbone(torch.rand(2, 3, *backbone.image_size), torch.zeros(1, 3, 64))
    assert features.shape == (2, 1 + 6, 64)


def test_timms_name_of_a_known_model_keeps_the_recipe_of_its_family() -> None:
    known, found = find("dinov2_vits14"), find("timm:vit_small_patch14_dinov2")
    assert (found.resampling, found.namings) == (known.resampling, known.namings)
    assert found.name == "timm:vit_small_patch14_dinov2"
    assert find("timm:vit_base_patch16_clip_224.openai").kind == "tokens"
