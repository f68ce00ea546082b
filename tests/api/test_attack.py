"""`rtok.attack`: one call for classifiers and backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rtok
from rtok.attacks import cosine
from rtok.config import TokensConfig


def test_a_classifier_is_wrong_afterwards(classifier: nn.Module, images: Tensor, labels: Tensor) -> None:
    found = rtok.attack(classifier, images, labels, eps=16 / 255, steps=5)
    assert classifier.training, "it is as it was before"
    assert (found - images).abs().max() <= 16 / 255 + 1e-6
    assert torch.equal((found * 255).round() / 255, found)
    assert (classifier.eval()(found).argmax(1) != labels).all()


def test_a_backbone_is_attacked_on_features_and_a_defended_one_too(backbone: rtok.Backbone, images: Tensor) -> None:
    found = rtok.attack(backbone, images, steps=3)
    assert (cosine(backbone(found), backbone(images), "channel") < 0.99).all()
    tokens = rtok.RobustnessTokens.create(TokensConfig(init_std=1.0), backbone, 0)
    other = rtok.attack(tokens.model(backbone), images, steps=3)
    assert not torch.equal(found, other)


def test_the_result_depends_on_no_batch_and_no_order(classifier: nn.Module, images: Tensor, labels: Tensor) -> None:
    whole = rtok.attack(classifier, images, labels, steps=2)
    assert torch.equal(rtok.attack(classifier, images, labels, steps=2, batch_size=4), whole)
    assert torch.equal(rtok.attack(classifier, images.flip(0), labels.flip(0), steps=2).flip(0), whole)
    assert not torch.equal(rtok.attack(classifier, images, labels, steps=2, seed=1), whole)


def test_normalization_is_part_of_the_model(classifier: nn.Module, images: Tensor, labels: Tensor) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.inner((x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
            return found

    outside = rtok.attack(classifier, images, labels, mean=mean, std=std, steps=2)
    assert torch.equal(outside, rtok.attack(Inside(), images, labels, steps=2))
    # a radius in normalized units is one in pixels for each channel
    scaled = rtok.attack(classifier, images, labels, mean=mean, std=std, units="normalized", eps=0.1, steps=2)
    bounds = 0.1 * torch.tensor(std) + 0.5 / 255 + 1e-6
    assert ((scaled - images).abs().amax((0, 2, 3)) <= bounds).all()
    assert (scaled - images).abs()[:, 2].max() > 0.1 * std[0]


def test_masks_and_other_methods(images: Tensor, classifier: nn.Module, labels: Tensor) -> None:
    torch.manual_seed(0)
    segmenter = nn.Conv2d(3, 4, 3, padding=1)
    masks = segmenter(images).argmax(1)
    found = rtok.attack(segmenter, images, masks, eps="8/255", steps=3)
    assert (segmenter(found).argmax(1) == masks).float().mean() < 1
    for options in ({"method": "square", "queries": 20}, {"preset": "apgd", "steps": 3}, {"preset": "l2", "steps": 2}):
        assert rtok.attack(classifier, images, labels, **options).shape == images.shape  # type: ignore[arg-type]


def test_no_images_are_no_mistake(classifier: nn.Module) -> None:
    assert rtok.attack(classifier, torch.empty(0, 3, 28, 28)).shape == (0, 3, 28, 28)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"norm": "l2"}, "needs a radius"),
        ({"epz": 1}, "unknown key"),
        ({"eps": 8}, "did you mean 8/255"),
        ({"preset": "ensemble"}, "runs one attack"),
        ({"method": "autoattack"}, "autoattack attacks labels, not features"),
        ({"labels": torch.zeros(6)}, "labels are torch.float32"),
        ({"labels": torch.full((6,), 9)}, "the largest label is 9, and the model has 5 classes"),
        ({"labels": torch.zeros(6, 28, 28, dtype=torch.long)}, r"need a model with logits \(B, K, H, W\)"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean and std belong together"),
    ],
)
def test_what_is_refused(classifier: nn.Module, images: Tensor, options: dict[str, Any], says: str) -> None:
    with pytest.raises(rtok.UserError, match=says):
        rtok.attack(classifier, images, **options)


def test_a_backbone_has_no_classes_and_normalizes_itself(backbone: rtok.Backbone, images: Tensor) -> None:
    with pytest.raises(rtok.UserError, match="leave labels out to attack features"):
        rtok.attack(backbone, images, torch.zeros(6, dtype=torch.long))
    with pytest.raises(rtok.UserError, match="normalizes images itself"):
        rtok.attack(backbone, images, mean=(0, 0, 0), std=(1, 1, 1))
