"""Compiled models meet few batch sizes, and keep their results, also where a replayed graph overwrites its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.models.backbone import Backbone
from rtok.models.compiled import VARIANTS, Compiled, Sizes
from rtok.models.entry import AppendedTokens


class Replayed:
    """Stands in for `torch.compile`: in modes with graphs, results and gradients lie where the next will."""

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        self.function, self.options = function, options
        self.sizes: list[int] = []
        self.buffers: dict[Any, Tensor] = {}

    def __call__(self, images: Tensor, entry: Any) -> Tensor:
        self.sizes.append(len(images))
        return _Overwriting.apply(self.function(_Overwriting.apply(images, self, "gradient"), entry), self, "output")

    def write(self, name: str, values: Tensor) -> Tensor:
        if self.options["mode"] == "default":
            return values.clone()
        return self.buffers.setdefault((name, values.shape), torch.empty_like(values)).copy_(values)


class _Overwriting(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, to: Replayed, name: str) -> Tensor:
        ctx.to, ctx.name = to, name
        return to.write(name, values.detach()) if name == "output" else values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.to.write("gradient", gradient) if ctx.name == "gradient" else gradient, None, None


@pytest.fixture
def backbone(tiny: Callable[..., Any]) -> Backbone:
    return tiny("dinov2_vits14").load(image_size=28)


@pytest.fixture
def images(tiny: Callable[..., Any]) -> Tensor:
    return tiny("dinov2_vits14").images(8, 28)


def features_and_gradient(model: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    features = model(images)
    return features.detach(), torch.autograd.grad(features.square().sum(), images)[0]


def test_smaller_batches_get_no_size_of_their_own_unless_they_waste_a_half() -> None:
    sizes = Sizes()
    assert [sizes.filled(batch) for batch in (8, 5, 4, 8, 3, 2, 16, 9, 1)] == [8, 8, 8, 8, 3, 3, 16, 16, 1]
    assert sizes.met == {8, 3, 16, 1}


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_results_are_the_same_and_stay_so(
    backbone: Backbone, images: Tensor, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = AppendedTokens(torch.randn(1, 2, backbone.dim, generator=torch.Generator().manual_seed(3)))
    defended = lambda images: backbone(images, tokens)  # noqa: E731
    batches = [images, images[:5], images[2:6].flip(0), images[:3]]
    wanted = [features_and_gradient(model, batch) for model in (backbone, defended) for batch in batches]

    monkeypatch.setattr(torch, "compile", Replayed)
    backbone.compile_forward(mode)
    found = [features_and_gradient(model, batch) for model in (backbone, defended) for batch in batches]

    compiled: Any = backbone._compiled
    assert compiled._function.sizes == [8, 8, 8, 3] * 2
    assert compiled._function.options == {"mode": mode, "dynamic": False}
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_padding_reaches_no_result(backbone: Backbone, images: Tensor) -> None:
    """What fills a batch up is computed, and nothing else is changed by it: not by NaN either."""

    def spoiled(images: Tensor, entry: Any) -> Tensor:
        empty = images.detach().flatten(1).amax(1) == 0
        return torch.where(empty[:, None, None], torch.nan, backbone._forward(images, entry))

    compiled = Compiled(spoiled, "default")
    compiled._function = spoiled  # not compiled at all
    entry = AppendedTokens(torch.zeros(1, 1, backbone.dim))
    compiled(images, entry)
    for one, other in zip(
        features_and_gradient(lambda images: compiled(images, entry), images[:5]),
        features_and_gradient(lambda images: backbone(images, entry), images[:5]),
        strict=True,
    ):
        assert torch.equal(one, other)
    assert compiled.sizes.met == {8}


def test_tokens_of_each_image_and_copies_are_not_compiled(
    backbone: Backbone, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", Replayed)
    backbone.compile_forward("default")
    backbone(images)
    tokens = torch.randn(5, 2, backbone.dim)
    found = backbone(images[:5], tokens)
    alone = torch.cat([backbone(images[b : b + 1], tokens[b : b + 1]) for b in range(5)])
    torch.testing.assert_close(found, alone)
    copied = copy.deepcopy(backbone)
    assert copied._compiled is None and torch.equal(copied(images), backbone(images))


def test_torch_may_compile_enough_variants(backbone: Backbone) -> None:
    backbone.compile_forward("default")
    config = torch._dynamo.config
    assert getattr(config, "recompile_limit", config.cache_size_limit) >= VARIANTS


def test_rounded_copies_are_made_outside_of_what_is_compiled(
    backbone: Backbone, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone.half_gradients = True
    wanted = features_and_gradient(backbone, images)
    backbone._halves.clear()
    seen = []

    def compile_(function: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
        return lambda *given: seen.append(backbone.vit in backbone._halves) or function(*given)

    monkeypatch.setattr(torch, "compile", compile_)
    backbone.compile_forward("default")
    for one, other in zip(features_and_gradient(backbone, images), wanted, strict=True):
        assert torch.equal(one, other)
    assert seen == [True]
