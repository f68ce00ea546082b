"""A timm model with tokens inside is the model with tokens, and nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import rtok
from rtok.checkpoints import read_checkpoint
from rtok.defenses import RobustnessTokens
from rtok.defenses.robustify import RobustViT, robustify
from rtok.errors import UserError
from rtok.models import load_backbone
from rtok.release import description

TINY = {"embed_dim": 64, "depth": 2, "num_heads": 2}


def tokens(count: int = 5, **about: Any) -> RobustnessTokens:
    values = torch.randn(1, count, 64, generator=torch.Generator().manual_seed(3))
    return RobustnessTokens(values, **about)


def build(name: str, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    vit = timm.create_model(name, **{**TINY, **kwargs}).eval()
    for parameter in vit.parameters():
        parameter.data.normal_(std=0.3)
    return vit


def with_registers(vit: Any, name: str, values: Tensor, **kwargs: Any) -> Any:
    """The same weights in timm's own architecture with registers: an independent way to add tokens."""
    token = vit.cls_token is not None
    own = vit.num_prefix_tokens - token
    key = "num_reg_tokens" if hasattr(vit, "rope") else "reg_tokens"
    other = build(name, **{key: own + values.shape[1], "no_embed_class": True, **kwargs})
    state = vit.state_dict()
    if "pos_embed" in state and token and not vit.no_embed_class:
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    state["reg_token"] = torch.cat([state["reg_token"], values], dim=1) if own else values
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("vit_base_patch16_224", {"num_classes": 7}),
        ("vit_base_patch16_224", {"num_classes": 7, "global_pool": "avg"}),
        ("vit_base_patch16_224", {"num_classes": 0, "img_size": 32}),
        ("deit3_small_patch16_224", {"num_classes": 3}),
        ("vit_small_patch14_reg4_dinov2", {"num_classes": 0, "img_size": 56}),
        ("vit_small_patch16_dinov3", {"num_classes": 4, "img_size": 64}),
        ("vit_base_patch16_siglip_224", {"num_classes": 0}),
    ],
)
def test_it_is_timms_model_with_that_many_registers(name: str, kwargs: dict[str, Any]) -> None:
    vit, added = build(name, **kwargs), tokens()
    robust = robustify(vit, added)
    images = torch.randn(2, 3, *vit.patch_embed.img_size)
    expected = with_registers(vit, name, added.values, **kwargs)
    with torch.no_grad():
        torch.testing.assert_close(robust(images), expected(images), rtol=0, atol=1e-4)
        features, wanted = robust.forward_features(images), expected.forward_features(images)
        own = vit.num_prefix_tokens
        wanted = torch.cat([wanted[:, :own], wanted[:, expected.num_prefix_tokens :]], dim=1)
        assert features.shape == vit.forward_features(images).shape
        torch.testing.assert_close(features, wanted, rtol=0, atol=1e-4)
        assert (robust(images) - vit(images)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["dinov2_vits14", "openclip_vitb32", "dinov3_vits16"])
def test_it_is_the_backbone_with_tokens(tiny: Any, name: str) -> None:
    """Also behind OpenCLIP's norm before the first block, which timm's registers pass and tokens do not."""
    model = tiny(name)
    backbone = model.load()
    images = model.images()
    robust = robustify(backbone.vit, tokens())
    normalized = (images - backbone.mean) / backbone.std
    with torch.no_grad():
        found = robust(normalized) if backbone.kind == "embedding" else robust.forward_features(normalized)
        if backbone.num_registers:
            found = torch.cat([found[:, :1], found[:, 1 + backbone.num_registers :]], dim=1)
        assert torch.equal(found, backbone(images, tokens().values))


def test_other_image_sizes_work_where_the_model_takes_them() -> None:
    vit = build("vit_small_patch16_dinov3", num_classes=0, dynamic_img_size=True)
    robust = robustify(vit, tokens())
    with torch.no_grad():
        for size in ((32, 64), (256, 256)):
            images = torch.randn(1, 3, *size)
            expected = with_registers(
                vit, "vit_small_patch16_dinov3", tokens().values, num_classes=0, dynamic_img_size=True
            )
            torch.testing.assert_close(robust(images), expected(images), rtol=0, atol=1e-4)


def test_the_model_is_left_alone_and_shared() -> None:
    vit = build("vit_base_patch16_224", num_classes=3)
    before = copy.deepcopy(vit.state_dict())
    images = torch.randn(1, 3, 224, 224)
    plain = vit(images)
    robust = robustify(vit, tokens())
    robust(images)
    assert torch.equal(vit(images), plain)
    assert all(torch.equal(tensor, before[key]) for key, tensor in vit.state_dict().items())
    assert {id(p) for p in robust.parameters()} == {id(p) for p in vit.parameters()}  # tokens are a buffer
    assert not robust.training and robust.train().model.training
    assert timm.data.resolve_model_data_config(robust)["mean"] == vit.pretrained_cfg["mean"]


def test_a_classifier_can_be_trained_on_it() -> None:
    robust = robustify(build("vit_base_patch16_224", num_classes=3).train(), tokens())
    robust(torch.randn(2, 3, 224, 224)).sum().backward()
    assert all(parameter.grad is not None for parameter in robust.parameters())
    assert not robust.rtokens.requires_grad and torch.equal(robust.rtokens, tokens().values)


def test_what_is_saved_says_what_it_is(tmp_path: Path) -> None:
    made = tokens(backbone="timm:vit_base_patch16_224", image_size=(224, 224), config={"seed": 3}, version="0.1")
    robust = robustify(build("vit_base_patch16_224", num_classes=0), made)
    torch.save({"state_dict": torch.nn.Sequential(robust).state_dict()}, tmp_path / "inside.pth")
    torch.save(robust.state_dict(), tmp_path / "robust.pth")
    save_file(robust.state_dict(), tmp_path / "robust.safetensors", metadata=robust.metadata)
    for name in ("inside.pth", "robust.pth", "robust.safetensors"):
        about = description(read_checkpoint(tmp_path / name).metadata)
        assert about is not None and about["target"] == "robustify" and about["tokens"] == made.metadata
    for name in ("robust.pth", "robust.safetensors"):
        read = RobustnessTokens.load(tmp_path / name)
        assert torch.equal(read.values, made.values)
        assert (read.backbone, read.image_size, read.config) == (made.backbone, made.image_size, made.config)
    with safe_open(tmp_path / "robust.safetensors", framework="pt") as file:
        assert "rtokens" in file.keys() and "model.cls_token" in file.keys()  # noqa: SIM118
    other = robustify(build("vit_base_patch16_224", num_classes=0), tokens())
    other.load_state_dict(torch.load(tmp_path / "robust.pth"), strict=True)
    with pytest.raises(UserError, match="not a plain backbone: it has 5 robustness tokens"):
        load_backbone("timm:vit_base_patch16_224", weights=tmp_path / "robust.pth")


@pytest.mark.parametrize(
    ("name", "about", "message"),
    [
        (
            "vit_base_patch16_224",
            {"backbone": "dinov2_vits14"},
            r"made for dinov2_vits14 .*not for vit_base_patch16_224",
        ),
        ("resnet18", {}, r"cannot join this model: timm builds it as ResNet"),
        ("vit_small_patch16_rope_mixed_224", {}, r"rotary positions are learned"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, about: dict[str, Any], message: str) -> None:
    kwargs = {} if name == "resnet18" else TINY
    with pytest.raises(UserError, match=message):
        robustify(timm.create_model(name, **kwargs), tokens(**about))


def test_a_name_of_timm_and_ours_are_the_same_architecture() -> None:
    vit = build("vit_small_patch14_dinov2", num_classes=0, img_size=28)
    assert isinstance(robustify(vit, tokens(backbone="dinov2_vits14")), RobustViT)
    with pytest.raises(UserError, match=r"width 64\), not for vit_small_patch14_dinov2 of width 384"):
        robustify(timm.create_model("vit_small_patch14_dinov2", img_size=28), tokens(backbone="dinov2_vits14"))


def test_a_backbone_takes_tokens_itself(tiny: Any) -> None:
    with pytest.raises(UserError, match=r"defense.model\(backbone\)\(images\)"):
        rtok.defenses.robustify.robustify(tiny("dinov2_vits14").load(), tokens())
