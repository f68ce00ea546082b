"""A supervised backbone's own classifier, against timm's whole model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from rtok.errors import UserError
from rtok.heads import own
from rtok.heads.own import own_classifier
from rtok.models import load_backbone


@pytest.fixture
def whole(tiny: Callable[..., Any], tmp_path: Path) -> tuple[Any, Any, Path]:
    """timm's whole DeiT-III with a classifier of seven classes, what rtok knows of it, and its weights."""
    spec = tiny("deit3_small_patch16_224").spec
    torch.manual_seed(0)
    vit = timm.create_model(spec.timm_name, num_classes=7, **spec.timm_kwargs).eval()
    for parameter in vit.parameters():
        parameter.data.normal_(std=0.3)
    path = tmp_path / "deit.safetensors"
    save_file(vit.state_dict(), path)
    return vit, spec, path


def test_equals_timm(whole: tuple[Any, Any, Path]) -> None:
    vit, spec, path = whole
    backbone = load_backbone(spec, weights=path)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = vit((images - backbone.mean) / backbone.std)
    torch.testing.assert_close(own_classifier(backbone, path)(backbone, images), expected, rtol=1e-5, atol=1e-5)


def test_pretrained_weights_bring_theirs(whole: tuple[Any, Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    vit, spec, path = whole
    backbone = load_backbone(spec, weights=path)
    asked = []

    def create_model(*names: str, **options: Any) -> Any:
        asked.append((names, options))
        return vit

    monkeypatch.setattr(own.timm, "create_model", create_model)
    head = own_classifier(backbone, "pretrained")
    assert asked == [((spec.timm_name,), {"pretrained": True, **spec.timm_kwargs})]
    assert torch.equal(head.weight, vit.head.weight) and torch.equal(head.bias, vit.head.bias)


@pytest.mark.parametrize("name", ["dinov2_vits14", "openclip_vitb32"])
def test_a_backbone_without_classifier(tiny: Callable[..., Any], name: str) -> None:
    model = tiny(name)
    with pytest.raises(UserError, match=f"{name} has no classifier on its class token"):
        own_classifier(model.load(), model.path)


def test_average_pooling_is_another_classifier(tiny: Callable[..., Any]) -> None:
    model = tiny("deit3_small_patch16_224", global_pool="avg", fc_norm=False)
    backbone = model.load()
    with pytest.raises(UserError, match="no classifier on its class token"):
        own_classifier(backbone, model.path)
