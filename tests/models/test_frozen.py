"""Frozen layers against those of torch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rtok.models import frozen
from rtok.models.frozen import FrozenLinear, FrozenPatches, freeze


def product_and_gradient(layer: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_(True)
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    return y.detach(), gradient


def frozen_copy(layer: nn.Linear) -> FrozenLinear:
    model = nn.Sequential(copy.deepcopy(layer)).requires_grad_(False)
    freeze(model)
    (layer,) = model
    assert isinstance(layer, FrozenLinear)
    return layer


@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 1, 24), (3, 2, 5, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_product_and_gradient_are_the_linear_layers(
    shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40, bias), torch.randn(shape)
    calls = []
    product = frozen.product
    monkeypatch.setattr(frozen, "product", lambda *args: calls.append(args) or product(*args))

    mine, reference = product_and_gradient(frozen_copy(layer), x), product_and_gradient(layer, x)

    assert len(calls) == 2, "oneDNN was to compute the product and the gradient"
    for got, expected in zip(mine, reference, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_a_gradient_that_is_not_contiguous() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40), torch.randn(2, 7, 24)
    weights = torch.randn(2, 40, 7)

    def gradient(layer: nn.Linear) -> Tensor:
        images = x.clone().requires_grad_(True)
        return torch.autograd.grad((layer(images).transpose(1, 2) * weights).sum(), images)[0]

    torch.testing.assert_close(gradient(frozen_copy(layer)), gradient(layer), rtol=1e-5, atol=1e-5)


def test_torch_still_has_the_private_operator() -> None:
    """If this fails, a new torch has changed it: `FrozenLinear` is then no faster than `nn.Linear`, and still right."""
    found = torch.ops.mkldnn._linear_pointwise.default._schema
    assert str(found) == frozen.SCHEMA, "adapt SCHEMA and the call below it"
    assert frozen._operator() is torch.ops.mkldnn._linear_pointwise.default


def test_another_operator_of_that_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40), torch.randn(2, 7, 24)
    monkeypatch.setattr(frozen, "_operator", frozen._operator.__wrapped__)  # not what was found before
    monkeypatch.setattr(frozen, "SCHEMA", frozen.SCHEMA.replace("str? algorithm", "int algorithm"))
    assert frozen._operator() is None

    for got, expected in zip(product_and_gradient(frozen_copy(layer), x), product_and_gradient(layer, x), strict=True):
        assert torch.equal(got, expected)


# Width and classes of a head, and two layers of a ViT-S; in each MKL's bits depend on the rows.
@pytest.mark.parametrize("widths", [(768, 10), (384, 1152), (1536, 384)])
@pytest.mark.parametrize("tokens", [1, 17, 50])
def test_a_row_has_the_same_bits_in_any_batch_and_with_any_number_of_threads(
    widths: tuple[int, int], tokens: int, set_threads: Callable[[int], None]
) -> None:
    torch.manual_seed(0)
    layer, x = frozen_copy(nn.Linear(*widths)), torch.randn(8, tokens, widths[0])
    found = []
    for number in (1, 2):
        set_threads(number)
        for batch in (1, 2, 3, 8):
            product, gradient = product_and_gradient(layer, x[:batch])
            assert torch.equal(layer(x[:batch]), product)
            found.append((product[0], gradient[0]))
    assert all(torch.equal(mine, first) for pair in found for mine, first in zip(pair, found[0], strict=True))


def test_a_vector_is_a_row() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40), torch.randn(24)
    assert torch.equal(frozen_copy(layer)(x), frozen_copy(layer)(x[None])[0])
    torch.testing.assert_close(frozen_copy(layer)(x), layer(x))


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_goes_through_onednn_where_it_multiplies_so(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if supported and not frozen._multiplies_bfloat16():
        pytest.skip("this processor has no bfloat16 for oneDNN")
    monkeypatch.setattr(frozen, "_multiplies_bfloat16", lambda: supported)
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40).bfloat16(), torch.randn(2, 7, 24).bfloat16()
    calls, onednn = [], frozen.onednn_product
    monkeypatch.setattr(frozen, "onednn_product", lambda *args: calls.append(args) or onednn(*args))

    mine, reference = product_and_gradient(frozen_copy(layer), x), product_and_gradient(layer, x)

    assert len(calls) == (2 if supported else 0)
    for got, expected in zip(mine, reference, strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, expected, rtol=2**-7, atol=2**-7)


def test_a_layer_that_learns_stays_a_linear_layer() -> None:
    """Unfrozen weights get their gradients, which the fast path would not give them."""
    torch.manual_seed(0)
    layer = frozen_copy(nn.Linear(24, 40)).requires_grad_(True)

    layer(torch.randn(5, 24, requires_grad=True)).sum().backward()

    assert layer.weight.grad is not None


@pytest.mark.parametrize("side", [(12, 8), (13, 11)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_of_patches_is_the_convolutions(side: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 20, 4, stride=4, bias=bias)
    model = nn.Sequential(copy.deepcopy(layer)).requires_grad_(False)
    freeze(model)
    assert type(model[0]) is FrozenPatches
    images, weights = torch.rand(2, 3, *side), torch.randn(2, 20, side[0] // 4, side[1] // 4)

    def gradient(layer: nn.Module) -> tuple[Tensor, Tensor]:
        x = images.clone().requires_grad_(True)
        y = layer(x)
        return y, torch.autograd.grad((y * weights).sum(), x)[0]

    (y, found), (reference, expected) = gradient(model[0]), gradient(layer)
    assert torch.equal(y, reference)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    model.requires_grad_(True)
    model(images).sum().backward()
    assert model[0].weight.grad is not None


def test_convolutions_whose_windows_overlap_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 4, stride=2), nn.Conv2d(4, 4, 3, stride=3, padding=1))
    freeze(model)
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Conv2d]


def test_freeze_shares_parameters_and_keeps_names_and_other_layers() -> None:
    model = nn.ModuleDict(
        {"mlp": nn.Sequential(nn.Linear(4, 5), nn.GELU()), "head": nn.Linear(5, 2, bias=False)}
    ).eval()
    parameters, names = list(model.parameters()), list(model.state_dict())

    freeze(model)

    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert list(model.state_dict()) == names
    assert [type(m) for m in model["mlp"]] == [FrozenLinear, nn.GELU]
    assert not any(m.training for m in model.modules())


def test_it_can_be_compiled() -> None:
    """Inside a compiled graph the plain operator stands, which the compiler knows."""
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40), torch.randn(5, 24)
    compiled = torch.compile(frozen_copy(layer), backend="aot_eager", fullgraph=True)

    y = compiled(x.clone().requires_grad_(True))

    torch.testing.assert_close(y, layer(x))
