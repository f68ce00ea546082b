import pytest
from pydantic import ValidationError

from rtok.config.segmentation import SegmentationConfig


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        ({}, (512, 512, 341)),
        ({"protocol": "paper"}, (518, 518, 341)),
        ({"protocol": "paper", "window": 224, "stride": 149}, (518, 224, 149)),
        ({"short_side": 640}, (640, 512, 341)),
    ],
)
def test_a_protocol_fills_in_the_sizes(written: dict, sizes: tuple[int, int, int]) -> None:
    config = SegmentationConfig.model_validate(written)
    assert (config.short_side, config.window, config.stride) == sizes
    assert SegmentationConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(("window", "patch", "side"), [(512, 14, 518), (518, 14, 518), (512, 16, 512)])
def test_windows_are_padded_to_whole_patches(window: int, patch: int, side: int) -> None:
    assert SegmentationConfig(short_side=600, window=window, stride=99).model_size(patch) == side


@pytest.mark.parametrize(
    "written", [{"window": 600}, {"stride": 513}, {"protocol": "ade"}, {"mode": "whole"}, {"crop": 1}]
)
def test_what_is_refused(written: dict) -> None:
    with pytest.raises(ValidationError):
        SegmentationConfig.model_validate(written)
