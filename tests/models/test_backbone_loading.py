from __future__ import annotations

from typing import Any

import pytest
import torch

from rtok.errors import UserError
from rtok.models import load_backbone


@pytest.mark.parametrize("size", [56, (28, 70)])
def test_dinov2_positions_are_resampled_before_loading(tiny: Any, size: Any) -> None:
    model = tiny("dinov2_vits14")
    height, width = (size, size) if isinstance(size, int) else size
    backbone = model.load(image_size=size)
    grid = model.vit.pos_embed[:, 1:].reshape(1, 37, 37, 64).permute(0, 3, 1, 2)
    factors = ((height // 14 + 0.1) / 37, (width // 14 + 0.1) / 37)
    wanted = torch.nn.functional.interpolate(grid, scale_factor=factors, mode="bicubic").flatten(2).mT
    assert torch.equal(backbone.vit.pos_embed[:, 1:], wanted)
    assert torch.equal(backbone.vit.pos_embed[:, :1], model.vit.pos_embed[:, :1])
    assert backbone(torch.rand(1, 3, height, width)).shape == (1, 1 + height * width // 196, 64)


def test_the_paper_normalization_can_be_asked_for(tiny: Any) -> None:
    model = tiny("openclip_vitl14")
    assert model.load().mean.flatten().tolist() == [0.5, 0.5, 0.5]
    imagenet = model.load(normalization="imagenet")
    assert torch.allclose(imagenet.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    assert torch.allclose(imagenet.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


def test_half_precision_files_are_computed_in_float32(tiny: Any) -> None:
    model = tiny("dinov2_vits14")
    path = model.path.with_suffix(".pth")
    torch.save({key: tensor.half() for key, tensor in model.vit.state_dict().items()}, path)
    backbone = model.load(weights=path, image_size=28)
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}


@pytest.mark.parametrize("size", [100, (224, 225), 0, -14])
def test_a_size_that_the_patches_do_not_divide_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match="multiple of 14"):
        load_backbone("dinov2_vits14", weights="none.pth", image_size=size)


def test_pretrained_weights_without_a_network_name_the_remedy() -> None:
    with pytest.raises(UserError, match=r"`hf download timm/vit_small_patch14_dinov2\.lvd142m --local-dir DIR`"):
        load_backbone("dinov2_vits14", image_size=28)


def test_pretrained_weights_take_the_same_way(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is replaced by a file; what timm makes of it at native size must be resampled by our recipe."""
    import timm

    model = tiny("dinov2_vits14")
    create = timm.create_model

    def hub(name: str, pretrained: bool = False, **kwargs: Any) -> Any:
        vit = create(name, **kwargs)
        if pretrained:
            assert kwargs["img_size"] == (518, 518)
            vit.load_state_dict(model.vit.state_dict())
        return vit

    monkeypatch.setattr(timm, "create_model", hub)
    images = model.images(1, 56)
    assert torch.equal(model.load(weights="pretrained", image_size=56)(images), model.load(image_size=56)(images))
