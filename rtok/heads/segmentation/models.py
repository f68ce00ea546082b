"""rtok's backbone and DINOv2's linear head as mmsegmentation models.

Registered in mmseg as `RtokBackbone`, `BNHead` and `RtokSegmenter`: an mmseg config file can name them after
`custom_imports = dict(imports=["rtok.heads.segmentation.models"])`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rtok.defenses import load_defense
from rtok.heads.segmentation import engine
from rtok.models import Features, load_backbone
from rtok.models.frozen import linear
from rtok.models.spec import ModelSpec

engine.start()

from mmengine import ConfigDict  # noqa: E402 (mmseg cannot be imported before `start`)
from mmengine.hooks import Hook  # noqa: E402
from mmengine.model import BaseModule  # noqa: E402
from mmseg.models import EncoderDecoder  # noqa: E402
from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402
from mmseg.registry import HOOKS, MODELS  # noqa: E402

# Up to this many windows keep their activations for the backward pass; with more, each window is computed
# again there, so that memory does not grow with the image. ADE20K's usual shape, 512 x 683, has two.
KEPT_WINDOWS = 2


@MODELS.register_module()
class RtokBackbone(BaseModule):
    """A frozen backbone, with or without a defense, that gives mmseg one feature map for each of some blocks.

    Args:
        backbone: the model, or its name, for `load_backbone` with `weights`, `image_size`, `normalization`.
        blocks: which blocks' features to give, from 0 (mmseg's `out_indices`).
        defense: the file of a defense to put into the backbone, or None.

    Images are in [0, 1]: normalization is the backbone's own. Smaller ones than its size are padded centrally
    with its mean, as DINOv2's segmentation pads normalized windows with zeros to whole patches.
    """

    def __init__(
        self,
        backbone: Features | ModelSpec | str,
        blocks: Sequence[int],
        defense: str | Path | None = None,
        weights: str = "pretrained",
        image_size: int = 518,
        normalization: str = "auto",
    ) -> None:
        super().__init__()
        if isinstance(backbone, str | ModelSpec):
            backbone = load_backbone(backbone, weights=weights, image_size=image_size, normalization=normalization)
        if defense is not None:
            loaded = load_defense(Path(defense), backbone.backbone.spec.name)
            loaded.check(backbone.backbone, Path(defense))
            backbone = loaded.model(backbone.backbone)
        self.backbone = backbone.backbone  # a module, which moves with this one
        self.model = backbone
        self.blocks = tuple(blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return a map (B, D, gh, gw) for each of `blocks`: final-norm features of the patches alone."""
        maps = (features[:, 1:].transpose(1, 2) for features in self.features(images))
        return tuple(f.unflatten(2, self.backbone.grid) for f in maps)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the final-norm features (B, 1+P, D) after each of `blocks`."""
        return self.model.intermediate(self._padded(images), self.blocks)

    def _padded(self, images: Tensor) -> Tensor:
        vertical, horizontal = (
            full - side for full, side in zip(self.backbone.image_size, images.shape[2:], strict=True)
        )
        if not vertical and not horizontal:
            return images
        B, _, H, W = images.shape
        top, left = vertical // 2, horizontal // 2
        canvas = self.backbone.mean.repeat(B, 1, *self.backbone.image_size)
        canvas[:, :, top : top + H, left : left + W] = images
        return canvas


@MODELS.register_module()
class BNHead(BaseDecodeHead):
    """DINOv2's linear segmentation head: batch norm on the concatenated maps, then a 1 x 1 convolution."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.bn = nn.BatchNorm2d(self.in_channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits (B, K, gh, gw) for maps (B, D, gh, gw)."""
        return self.cls_seg(self.bn(self._transform_inputs(inputs)))

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Map (B, D, gh, gw) to logits (B, K, gh, gw); frozen, with the same bits for a map in any batch."""
        weight, bias = self.conv_seg.weight, self.conv_seg.bias
        if weight.requires_grad:
            return super().cls_seg(feat)
        return linear(feat.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


@MODELS.register_module()
class RtokSegmenter(EncoderDecoder):
    """mmseg's encoder-decoder, whose gradient to an image of many windows needs the memory of one."""

    def _init_decode_head(self, decode_head: Any) -> None:
        """Take a head from its config, or one that there is."""
        if not isinstance(decode_head, BaseDecodeHead):
            return super()._init_decode_head(decode_head)
        self.decode_head = decode_head
        self.align_corners = decode_head.align_corners
        self.num_classes = decode_head.num_classes
        self.out_channels = decode_head.out_channels

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for images (B, 3, H, W) in [0, 1], averaged over sliding windows."""
        size = images.shape[2:]
        windows = len(sliding_windows(size, self.test_cfg.crop_size[0], self.test_cfg.stride[0]))
        about = {"ori_shape": size, "img_shape": size, "recompute": windows > KEPT_WINDOWS}
        return self.inference(images, [dict(about) for _ in images])

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        """Return one window's logits at the window's size."""
        # `slide_inference` writes each window's size into the same metas: what runs again needs its own.
        metas = [{"img_shape": inputs.shape[2:]}]
        decode = super().encode_decode
        if not (batch_img_metas[0].get("recompute") and torch.is_grad_enabled() and inputs.requires_grad):
            return decode(inputs, metas)
        return checkpoint(decode, inputs, metas, use_reentrant=False, preserve_rng_state=False)


def window_features(encoder: RtokBackbone, images: Tensor, *, window: int, stride: int) -> Tensor:
    """Return the features (B, windows * (1+P), D) after the encoder's one block, window after window.

    Args:
        images: (B, 3, H, W) in [0, 1].
    """
    places = sliding_windows(images.shape[2:], window, stride)
    again = len(places) > KEPT_WINDOWS and torch.is_grad_enabled() and images.requires_grad

    def of(part: Tensor) -> Tensor:
        return encoder.features(part)[0]

    parts = (images[:, :, rows, columns] for rows, columns in places)
    found = [
        checkpoint(of, part, use_reentrant=False, preserve_rng_state=False) if again else of(part) for part in parts
    ]
    return torch.cat(found, dim=1)


def sliding_windows(size: Sequence[int], window: int, stride: int) -> list[tuple[slice, slice]]:
    """Return where mmseg's sliding windows lie in a picture (H, W): the last ones end at its edges."""

    def along(side: int) -> list[slice]:
        count = max(side - window + stride - 1, 0) // stride + 1
        ends = (min(i * stride + window, side) for i in range(count))
        return [slice(max(end - window, 0), end) for end in ends]

    height, width = size
    return [(rows, columns) for rows in along(height) for columns in along(width)]


def build_segmenter(features: Features, head: BNHead, blocks: Sequence[int], window: int, stride: int) -> RtokSegmenter:
    """Put a backbone, with what defends it, and a head together, in evaluation mode."""
    encoder = ConfigDict(type=RtokBackbone, backbone=features, blocks=blocks)
    sliding = ConfigDict(mode="slide", crop_size=(window, window), stride=(stride, stride))
    # For mmseg's training loop, which feeds 8-bit BGR pictures: [0, 1] and RGB, as everywhere in rtok.
    feed = ConfigDict(
        type="SegDataPreProcessor", mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True, size=(window, window)
    )
    return RtokSegmenter(encoder, head, data_preprocessor=feed, test_cfg=sliding).eval()


def build_head(dim: int, blocks: int, classes: int) -> BNHead:
    """Build DINOv2's linear head for the features of some blocks, not yet trained."""
    return BNHead(
        in_channels=[dim] * blocks,
        in_index=list(range(blocks)),
        input_transform="resize_concat",
        channels=dim * blocks,
        dropout_ratio=0.0,
        num_classes=classes,
        out_channels=classes,  # else mmseg would advise one channel for two classes
        align_corners=False,
    )


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keeps checkpoints small and plain: the head's weights without the frozen backbone's, no objects.

    mmengine's message hub pickles functions, which `torch.load(weights_only=True)` rightly refuses.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Reduce what is about to be written."""
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}
        checkpoint["meta"].pop("config", None)  # resuming would execute it
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if k.startswith("decode_head.")}
