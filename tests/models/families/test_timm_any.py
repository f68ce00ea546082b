from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from rtok.errors import UserError
from rtok.models import load_backbone
from rtok.models.registry import find, search


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "SwinTransformer"),
        ("resnet18", "ResNet"),
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


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_224", "vit_base_patch16_siglip_gap_224"])
def test_without_a_class_token_its_place_has_what_the_model_pools(tiny: Any, name: str) -> None:
    model = tiny(f"timm:{name}")
    backbone, images = model.load(), model.images(2)
    assert (model.spec.registers, backbone.num_registers, backbone.has_class_token) == (0, 0, False)
    normalized = (images - backbone.mean) / backbone.std
    patches = model.vit.forward_features(normalized)
    pooled = model.vit.forward_head(patches, pre_logits=True)
    torch.testing.assert_close(backbone(images), torch.cat([pooled[:, None], patches], dim=1), rtol=1e-5, atol=1e-5)
    # tokens take part in the blocks, and not in the pooling
    tokens = 3 * torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    robust = backbone(images, tokens)
    assert robust.shape == backbone(images).shape and not torch.equal(robust, backbone(images))
    assert torch.allclose(robust[:, 0], model.vit.forward_head(robust[:, 1:], pre_logits=True), atol=1e-5)
    gradient = torch.autograd.grad(backbone(images, tokens.requires_grad_())[:, 0].sum(), tokens)[0]
    assert gradient.abs().sum() > 0


def test_a_search_lists_what_can_be_named() -> None:
    found, others = search("siglip_224")
    names = [spec.name for spec in found]
    assert "timm:vit_base_patch16_siglip_224.v2_webli" in names and all("siglip_224" in name for name in names)
    assert all(find(name) == spec for name, spec in zip(names[:1], found, strict=False))
    assert others == len(timm.list_pretrained("*siglip_224*")) - len(found)
    assert search("resnet18") == ([], len(timm.list_pretrained("*resnet18*")))


def test_a_folder_with_timms_description_is_a_model(tiny: Any, tmp_path: Path) -> None:
    model = tiny("timm:vit_tiny_patch16_224")
    folder = tmp_path / "mine"
    folder.mkdir()
    kwargs = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    about = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "model_args": kwargs}
    (folder / "config.json").write_text(json.dumps({**about, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}))
    shutil.copy(model.path, folder / "model.safetensors")
    backbone = load_backbone(f"timm:local-dir:{folder}")
    assert (backbone.dim, backbone.depth) == (64, 2)
    assert backbone.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(backbone.vit.norm.weight, model.vit.norm.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf-hub:someone/vit", r"hf-hub:someone/vit could not be downloaded \(.*name the model timm:local-dir:DIR\."),
        ("local-dir:/nowhere", r"'local-dir:/nowhere' has no config\.json that timm can build a model from"),
    ],
)
def test_a_place_without_a_description_is_said_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find(f"timm:{name}")
    assert "\n" not in str(caught.value)


def test_timms_name_of_a_known_model_keeps_the_recipe_of_its_family() -> None:
    known, found = find("dinov2_vits14"), find("timm:vit_small_patch14_dinov2")
    assert (found.resampling, found.namings) == (known.resampling, known.namings)
    assert found.name == "timm:vit_small_patch14_dinov2"
    assert find("timm:vit_base_patch16_clip_224.openai").kind == "tokens"
