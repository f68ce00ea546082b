"""Head files: read as published, refused with the reason."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rtok.errors import UserError
from rtok.heads.segmentation.files import last_blocks, read_head, save_head


def test_published_heads_are_read(tiny: Callable, write_head: Callable, tmp_path: Path) -> None:
    backbone = tiny("dinov2_vits14", depth=5).load(image_size=28)
    linear = read_head(write_head(tmp_path / "linear.pth", 64, 7), backbone, 7)
    assert last_blocks(backbone, linear) == (4,)
    multi_scale = read_head(write_head(tmp_path / "ms.pth", 256, 7), backbone, 7)
    assert last_blocks(backbone, multi_scale) == (1, 2, 3, 4)
    state = torch.load(tmp_path / "linear.pth", weights_only=True)["state_dict"]
    assert len(state) == 7
    for key, value in state.items():
        torch.testing.assert_close(linear.state_dict()[key.removeprefix("decode_head.")], value)


def test_a_saved_head_is_read_back(tiny: Callable, write_head: Callable, tmp_path: Path) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=28)
    head = read_head(write_head(tmp_path / "a.pth", 64, 3), backbone, 3)
    save_head(tmp_path / "heads" / "b.pth", head, {"features": "plain"})
    content = torch.load(tmp_path / "heads" / "b.pth", weights_only=True)
    assert content["meta"] == {"features": "plain"}
    again = read_head(tmp_path / "heads" / "b.pth", backbone, 3)
    for name, value in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_the_rest_of_a_whole_model_is_left_out(tiny: Callable, write_head: Callable, tmp_path: Path) -> None:
    """mmseg saves all of a model; the frozen backbone's weights are not the head's matter."""
    backbone = tiny("dinov2_vits14").load(image_size=28)
    content = torch.load(write_head(tmp_path / "h.pth", 64, 3), weights_only=True)
    content["state_dict"]["backbone.vit.cls_token"] = torch.zeros(1)
    torch.save(content, tmp_path / "whole.pth")
    assert read_head(tmp_path / "whole.pth", backbone, 3).num_classes == 3


@pytest.mark.parametrize(
    ("width", "changes", "message"),
    [
        (128, {}, "width 128, but dinov2_vits14 has 64 (one block) or 256 (four blocks)"),
        (64, {"bn__running_mean": None, "bn__running_var": None}, "decode_head.bn.running_mean, decode_head.bn.r"),
        (64, {"conv_seg__bias": None}, "is no segmentation head: it lacks decode_head.conv_seg.bias"),
        (64, {"psp__0__weight": torch.zeros(3)}, "it also holds decode_head.psp.0.weight"),
        (64, {"conv_seg__weight": torch.zeros(3, 64, 3, 3)}, "its weight is (3, 64, 3, 3)"),
        (64, {"bn__weight": torch.zeros(5)}, "decode_head.bn.weight has the shape (5,), not (64,)"),
    ],
)
def test_what_is_refused(
    tiny: Callable, write_head: Callable, tmp_path: Path, width: int, changes: dict, message: str
) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=28)
    path = write_head(tmp_path / "h.pth", width, 3, **changes)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_head(path, backbone, 3)
    assert str(path) in str(error.value)


def test_another_number_of_classes_is_refused(tiny: Callable, write_head: Callable, tmp_path: Path) -> None:
    backbone = tiny("dinov2_vits14").load(image_size=28)
    path = write_head(tmp_path / "h.pth", 64, 150)
    with pytest.raises(UserError, match="has 150 classes, but the data set has 3"):
        read_head(path, backbone, 3)
