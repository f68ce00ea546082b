"""Every format of linear heads, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rtok.errors import UserError
from rtok.heads.files import choose_head, read_heads, save_head
from rtok.heads.linear import LAYOUTS, Layout, LinearHead
from rtok.models import Backbone


@pytest.fixture
def backbone(tiny: Callable[..., Any]) -> Backbone:
    return tiny("dinov2_vits14", depth=4).load()


def tensors(width: int, classes: int = 3, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(classes, width, generator=generator),
        "bias": torch.randn(classes, generator=generator),
    }


def linear_evaluation(path: Path, layouts: dict[str, int]) -> dict[str, dict[str, Tensor]]:
    """A model_final.pth as DINOv2's linear evaluation writes it, with what its trainer keeps beside it."""
    heads = {name: tensors(width, seed=seed) for seed, (name, width) in enumerate(layouts.items())}
    model = {
        f"classifiers_dict.{name}.linear.{kind}": tensor
        for name, head in heads.items()
        for kind, tensor in head.items()
    }
    torch.save({"model": model, "optimizer": {"state": {}, "param_groups": []}, "iteration": 12499}, path)
    return heads


NAMES = {
    "classifier_1_blocks_avgpool_False_lr_0_00100": 64,
    "classifier_1_blocks_avgpool_True_lr_0_00100": 128,
    "classifier_4_blocks_avgpool_False_lr_0_00100": 256,
    "classifier_4_blocks_avgpool_True_lr_0_00100": 320,
}


@pytest.mark.parametrize(("width", "layout"), list(zip((64, 128, 256, 320), LAYOUTS, strict=True)))
@pytest.mark.parametrize("prefix", ["", "linear.", "module.linear."])
def test_a_published_head(backbone: Backbone, tmp_path: Path, width: int, layout: Layout, prefix: str) -> None:
    saved = tensors(width)
    torch.save({prefix + name: tensor for name, tensor in saved.items()}, tmp_path / "head.pth")
    ((name, head),) = read_heads(tmp_path / "head.pth", backbone).items()
    assert (name, head.layout, head.classes) == ("", layout, 3)
    assert torch.equal(head.weight, saved["weight"]) and torch.equal(head.bias, saved["bias"])
    assert choose_head({name: head}, None, tmp_path) is choose_head({name: head}, "best", tmp_path) is head


def test_the_classifiers_of_a_linear_evaluation(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    saved = linear_evaluation(path, NAMES)
    heads = read_heads(path, backbone)
    assert list(heads) == list(NAMES)
    for name, layout in zip(NAMES, LAYOUTS, strict=True):
        assert heads[name].layout == layout
        assert torch.equal(heads[name].weight, saved[name]["weight"])
    named = choose_head(heads, list(NAMES)[2], path)
    assert named is heads[list(NAMES)[2]]


def test_best_reads_the_last_accuracies_beside_the_file(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    linear_evaluation(path, NAMES)
    heads = read_heads(path, backbone)
    assert choose_head(heads, "best", path) is None  # nothing on file: images have to decide
    early, late, *_ = NAMES
    lines = [
        f"iter: {iteration}\n" + json.dumps({"best_classifier": {"name": name, "accuracy": 0.8}}) + "\n\n"
        for iteration, name in ((1249, early), (12500, late))
    ]
    (tmp_path / "results_eval_linear.json").write_text("".join(lines))
    assert choose_head(heads, "best", path) is heads[late]


def test_what_fit_saved_is_read_back(backbone: Backbone, tmp_path: Path) -> None:
    saved = tensors(128)
    save_head(tmp_path / "plain.safetensors", LinearHead(**saved), {"l2": "0.1"})
    assert set(load_file(tmp_path / "plain.safetensors")) == {"weight", "bias"}
    (head,) = read_heads(tmp_path / "plain.safetensors", backbone).values()
    assert torch.equal(head.weight, saved["weight"]) and torch.equal(head.bias, saved["bias"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(3, 128)}, r"is a head without a bias"),
        ({"bias": torch.zeros(3)}, r"is a head without a weight"),
        ({"weight": torch.zeros(3, 128), "bias": torch.zeros(4)}, r"\(3, 128\) and bias \(4,\)"),
        ({"weight": torch.zeros(3, 100), "bias": torch.zeros(3)}, r"width 100, but dinov2_vits14 gives 64 or 128"),
        ({"weight": torch.full((3, 128), torch.nan), "bias": torch.zeros(3)}, "NaN or infinity"),
        ({"blocks.0.norm1.weight": torch.zeros(3), "blocks.0.norm1.bias": torch.zeros(3)}, "is not a linear head"),
        ({"cls_token": torch.zeros(3)}, "is not a linear head"),
    ],
)
def test_what_is_no_head(backbone: Backbone, tmp_path: Path, content: dict[str, Tensor], message: str) -> None:
    torch.save(content, tmp_path / "head.pth")
    with pytest.raises(UserError, match=message):
        read_heads(tmp_path / "head.pth", backbone)


def test_classifiers_that_are_not_there(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    linear_evaluation(path, NAMES)
    heads = read_heads(path, backbone)
    with pytest.raises(UserError, match=r"holds 4 classifiers: choose one with head.classifier, such as classifier_1"):
        choose_head(heads, None, path)
    with pytest.raises(UserError, match=r"Did you mean 'classifier_1_blocks_avgpool_True_lr_0_00100'"):
        choose_head(heads, "classifier_1_blocks_avgpool_True_lr_0_001", path)
    torch.save(tensors(64), path)
    with pytest.raises(UserError, match=r"has no classifier 'x'. It holds one head without a name"):
        choose_head(read_heads(path, backbone), "x", path)
