"""Models of transformers give the features that transformers computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

import rtok
from rtok.errors import UserError

SMALL = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12}


def randomized(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("model", "name", "size", "registers"),
    [
        (lambda: Dinov2Model(Dinov2Config(**SMALL, image_size=518, patch_size=14)), "dinov2_vits14", 518, 0),
        (
            lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL, image_size=518, patch_size=14)),
            "dinov2_vits14_reg",
            56,
            4,
        ),
        (
            lambda: DINOv3ViTModel(
                DINOv3ViTConfig(**SMALL, image_size=224, patch_size=16, intermediate_size=1536, num_register_tokens=4)
            ),
            "dinov3_vits16",
            32,
            4,
        ),
        (
            lambda: CLIPVisionModel(
                CLIPVisionConfig(
                    hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12,
                    image_size=224, patch_size=32,
                )
            ),
            "timm:vit_base_patch32_clip_quickgelu_224",
            224,
            0,
        ),
    ],
    ids=["dinov2", "dinov2-registers", "dinov3", "clip"],
)  # fmt: skip
def test_the_features_are_those_of_transformers(model: Any, name: str, size: int, registers: int) -> None:
    vit = randomized(model())
    backbone = rtok.backbone_from(vit, image_size=size)
    assert (backbone.spec.name, backbone.num_registers) == (name, registers)
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        after = vit(pixel_values=(images - backbone.mean) / backbone.std).last_hidden_state
        if isinstance(vit, CLIPVisionModel):
            after = getattr(vit, "vision_model", vit).post_layernorm(after)
        features = backbone(images)
    wanted = torch.cat([after[:, :1], after[:, 1 + registers :]], dim=1)
    assert features.shape == wanted.shape
    assert (features - wanted).norm() / wanted.norm() < 1e-4
    assert not any(weights.requires_grad for weights in backbone.parameters())
    assert all(weights.requires_grad for weights in vit.parameters())  # it is left as it was


def test_other_models_are_refused() -> None:
    with pytest.raises(UserError, match=r"takes a Dinov2Model, .* or CLIPVisionModel of transformers, not a Linear"):
        rtok.backbone_from(nn.Linear(1, 1))
    odd = Dinov2Model(Dinov2Config(hidden_size=64, num_attention_heads=2, num_hidden_layers=1, image_size=28))
    with pytest.raises(UserError, match="fit no backbone that `rtok models` lists"):
        rtok.backbone_from(odd)
    narrow = CLIPVisionConfig(hidden_size=64, num_attention_heads=2, num_hidden_layers=1, image_size=32)
    with pytest.raises(UserError, match=r"width 64 and the activation quick_gelu; valid are 768, 1024, 1280"):
        rtok.backbone_from(CLIPVisionModel(narrow))
