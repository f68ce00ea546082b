"""The `segmentation` section: what a segmentation model sees of an image, and the protocols as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from rtok.config.types import Index, Section, SmallCount, broken_rule

# DINOv2's published heads were measured with windows of 512 pixels; the original code of the paper has 518
# throughout, which is DINOv2's 37 x 37 patches without padding.
PROTOCOLS: dict[str, dict[str, int]] = {
    "dinov2": {"short_side": 512, "window": 512, "stride": 341},
    "paper": {"short_side": 518, "window": 518, "stride": 341},
}


class SegmentationConfig(Section):
    """What a segmentation model sees of an image.

    A resolved config states every option; those that were not written come from the protocol.
    """

    protocol: Literal["dinov2", "paper"] = Field(
        "dinov2",
        description="The sizes, which the next three keys override. `dinov2`: those of the published heads; "
        "`paper`: 518 pixels throughout.",
    )
    short_side: SmallCount = Field(512, description="Images are resized until their short side has this many pixels.")
    window: SmallCount = Field(
        512, description="Side of the square that the backbone sees, padded to a multiple of the patch size."
    )
    stride: SmallCount = Field(341, description="`slide`: pixels from one window to the next.")
    mode: Literal["slide", "crop"] = Field(
        "slide",
        description="`slide`: the whole image, with logits averaged over sliding windows (the usual protocol); "
        "`crop`: one random window of each image (the original code's).",
    )
    pictures: Index = Field(8, description="The predictions of this many images are drawn, the first of the data.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_protocol(cls, written: Any) -> Any:
        if not isinstance(written, Mapping):
            return written
        protocol = written.get("protocol", "dinov2")
        return {**(PROTOCOLS.get(protocol, {}) if isinstance(protocol, str) else {}), **written}

    @model_validator(mode="after")
    def _check_sizes(self) -> SegmentationConfig:
        if not self.stride <= self.window <= self.short_side:
            raise broken_rule(
                f"stride, window and short_side are {self.stride}, {self.window} and {self.short_side}; "
                "a stride is at most the window, and the window at most the short side"
            )
        return self

    def model_size(self, patch_size: int) -> int:
        """Return the side of a padded window: what `model.image_size` has to be."""
        return -(-self.window // patch_size) * patch_size
