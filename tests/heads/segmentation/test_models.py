"""Our mmseg models against direct computations and mmseg's own sliding windows."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.heads.segmentation.models import (
    KEPT_WINDOWS,
    BNHead,
    RtokBackbone,
    RtokSegmenter,
    build_head,
    build_segmenter,
    sliding_windows,
    window_features,
)
from rtok.models import Backbone
from tests.masked import defended

WINDOW, STRIDE, K = 25, 17, 5


@pytest.fixture
def backbone(tiny: Callable) -> Backbone:
    return tiny("dinov2_vits14").load(image_size=28)


@pytest.fixture(params=[1, 2])
def head(request: pytest.FixtureRequest) -> BNHead:
    torch.manual_seed(1)
    head = build_head(64, request.param, K)
    for tensor in head.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return head.eval()


def blocks_of(head: BNHead) -> tuple[int, ...]:
    return tuple(range(2 - len(head.in_index), 2))


def window_logits(backbone: Backbone, tokens: Tensor | None, head: BNHead, window: Tensor) -> Tensor:
    """Pad with the mean (zero once normalized), features, batch norm, 1 x 1 convolution, bilinear."""
    mean, std = backbone.mean, backbone.std
    low, high = (28 - WINDOW) // 2, 28 - WINDOW - (28 - WINDOW) // 2
    padded = F.pad((window - mean) / std, (low, high, low, high)) * std + mean
    maps = [
        f[:, 1:].transpose(1, 2).reshape(-1, 64, 2, 2) for f in backbone.intermediate(padded, blocks_of(head), tokens)
    ]
    x = torch.cat(maps, 1)
    bn = head.bn
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    x = (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]
    x = torch.einsum("kc,bchw->bkhw", head.conv_seg.weight[:, :, 0, 0], x) + head.conv_seg.bias[:, None, None]
    return F.interpolate(x, (WINDOW, WINDOW), mode="bilinear", align_corners=False)


def direct_logits(backbone: Backbone, tokens: Tensor | None, head: BNHead, images: Tensor) -> Tensor:
    """The average over windows that lie on a grid of STRIDE, the last of each row and column at the border."""
    B, _, H, W = images.shape
    total, count = torch.zeros(B, K, H, W), torch.zeros(H, W)
    tops, lefts = (sorted({*range(0, side - WINDOW, STRIDE), side - WINDOW}) for side in (H, W))
    for y in tops:
        for x in lefts:
            cut = (slice(y, y + WINDOW), slice(x, x + WINDOW))
            logits = window_logits(backbone, tokens, head, images[:, :, cut[0], cut[1]])
            total[:, :, cut[0], cut[1]] = total[:, :, cut[0], cut[1]] + logits
            count[cut] += 1
    return total / count


@pytest.mark.parametrize("size", [(25, 25), (25, 40), (36, 61)])
@pytest.mark.parametrize("with_tokens", [False, True])
def test_logits_and_their_gradient_equal_a_direct_computation(
    backbone: Backbone, head: BNHead, size: tuple[int, int], with_tokens: bool
) -> None:
    torch.manual_seed(2)
    tokens = torch.randn(1, 3, 64) if with_tokens else None
    images = torch.rand(1, 3, *size, requires_grad=True)
    model = build_segmenter(defended(backbone, tokens), head, blocks_of(head), WINDOW, STRIDE)
    ours, theirs = model.logits(images), direct_logits(backbone, tokens, head, images)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    weights = torch.randn(ours.shape)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), images)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), images)
    assert expected.abs().max() > 1
    torch.testing.assert_close(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_logits_equal_those_of_mmsegs_own_encoder_decoder(backbone: Backbone, head: BNHead) -> None:
    from mmengine import ConfigDict
    from mmseg.models import EncoderDecoder

    tokens = torch.randn(1, 3, 64)
    theirs = EncoderDecoder(
        ConfigDict(type="RtokBackbone", backbone=defended(backbone, tokens), blocks=blocks_of(head)),
        ConfigDict(
            type="BNHead",
            in_channels=[64] * len(head.in_index),
            in_index=list(head.in_index),
            input_transform="resize_concat",
            channels=64 * len(head.in_index),
            dropout_ratio=0,
            num_classes=K,
        ),
        test_cfg=ConfigDict(mode="slide", crop_size=(WINDOW, WINDOW), stride=(STRIDE, STRIDE)),
    ).eval()
    theirs.decode_head.load_state_dict(head.state_dict())
    images = torch.rand(2, 3, 36, 61)
    with torch.no_grad():
        ours = build_segmenter(defended(backbone, tokens), head, blocks_of(head), WINDOW, STRIDE).logits(images)
        packed = theirs.predict(images)
    expected = torch.stack([sample.seg_logits.data for sample in packed])
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_memory_does_not_grow_with_the_number_of_windows(backbone: Backbone) -> None:
    head = build_head(64, 1, K).eval()
    model = build_segmenter(backbone, head, (1,), WINDOW, STRIDE)

    def kept(width: int) -> int:
        """Values that the graph holds for the backward pass."""
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        images = torch.rand(1, 3, WINDOW, width, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.logits(images)
        return total

    two, ten = kept(WINDOW + STRIDE), kept(WINDOW + 9 * STRIDE)
    assert ten < two / 2


@pytest.mark.parametrize("size", [(36, 61), (WINDOW, WINDOW + 1), (20, 90), (WINDOW, 3 * WINDOW)])
def test_windows_lie_where_mmsegs_do(backbone: Backbone, size: tuple[int, int]) -> None:
    """mmseg's windows as its own loop cuts them, told by an image whose pixels say where they lie."""
    model = build_segmenter(backbone, build_head(64, 1, K).eval(), (1,), WINDOW, STRIDE)
    places = torch.arange(size[0] * size[1]).reshape(1, 1, *size).expand(1, 3, *size).float()
    seen: list[Tensor] = []

    def spy(inputs: Tensor, metas: list[dict[str, Any]]) -> Tensor:
        seen.append(inputs)
        return torch.zeros(1, K, *inputs.shape[2:])

    model.encode_decode = spy
    model.logits(places)
    ours = [places[:, :, rows, columns] for rows, columns in sliding_windows(size, WINDOW, STRIDE)]
    assert len(ours) == len(seen) and all(map(torch.equal, ours, seen))


@pytest.mark.parametrize("tokens", [None, torch.ones(1, 2, 64)])
def test_window_features_are_those_of_each_window_and_have_their_gradient(
    backbone: Backbone, tokens: Tensor | None
) -> None:
    images = torch.rand(2, 3, 36, 61, requires_grad=True)
    places = sliding_windows((36, 61), WINDOW, STRIDE)
    assert len(places) > KEPT_WINDOWS  # so that they are computed again for the gradient
    found = window_features(RtokBackbone(defended(backbone, tokens), [0]), images, window=WINDOW, stride=STRIDE)
    encoder = RtokBackbone(defended(backbone, tokens), [0])
    parts = [encoder._padded(images[:, :, rows, columns]) for rows, columns in places]
    expected = torch.cat([backbone.intermediate(part, [0], tokens)[0] for part in parts], dim=1)
    assert found.shape[1] % len(places) == 0
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape)
    gradients = [torch.autograd.grad((of * weights).sum(), images)[0] for of in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_single_head_serves_many_models(backbone: Backbone) -> None:
    head = build_head(64, 1, K).eval()
    models = [build_segmenter(backbone, head, (1,), WINDOW, STRIDE) for _ in range(2)]
    assert models[0].decode_head is models[1].decode_head is head
    assert isinstance(models[0], RtokSegmenter)
    assert not any(p.requires_grad for p in models[0].backbone.parameters())


def test_a_model_is_named_in_an_mmseg_config(tiny: Callable, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from mmseg.registry import MODELS

    from rtok.defenses import RobustnessTokens

    made = tiny("dinov2_vits14")
    tokens = RobustnessTokens.draw(2, 64, std=1.0)
    tokens.save(tmp_path / "r.safetensors")
    model = MODELS.build(
        {
            "type": "RtokBackbone",
            "backbone": made.spec,
            "weights": str(made.path),
            "image_size": 28,
            "blocks": [0, 1],
            "defense": str(tmp_path / "r.safetensors"),
        }
    )
    images = made.images(2, 28)
    first, second = model(images)
    backbone = made.load(image_size=28)
    expected = backbone.intermediate(images, [0, 1], tokens.values)
    torch.testing.assert_close(first.flatten(2), expected[0][:, 1:].transpose(1, 2))
    torch.testing.assert_close(second.flatten(2), expected[1][:, 1:].transpose(1, 2))


def test_a_frozen_head_gives_a_map_the_same_bits_in_any_batch_and_with_any_number_of_threads(
    set_threads: Callable[[int], None],
) -> None:
    torch.manual_seed(0)
    head, maps = build_head(384, 1, 150).eval(), torch.randn(4, 384, 7, 7)
    trained = head((maps,)).detach()
    head.requires_grad_(False)
    found = []
    for number in (1, 2):
        set_threads(number)
        found += [head((maps[:batch],))[0] for batch in (1, 2, 4)]
    assert all(torch.equal(one, found[0]) for one in found)
    torch.testing.assert_close(head((maps,)), trained, rtol=1e-5, atol=1e-5)
