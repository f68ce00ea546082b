"""Low-rank changes of linear layers (Hu et al., 2022): merged where they are frozen, cheap where they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rtok.errors import UserError
from rtok.models.altered import with_bias_inside, with_modules
from rtok.models.entry import Entry, OwnModel
from rtok.models.frozen import linear, product

Factors = tuple[Tensor, Tensor]  # A (rank, in) and B (out, rank): the change is scale * B A

# What a layer is called in timm's blocks: fused or not, gated or not.
_PATHS = {
    "qkv": (("attn.qkv",), ("attn.q_proj", "attn.k_proj", "attn.v_proj")),
    "proj": (("attn.proj",),),
    "fc1": (("mlp.fc1",), ("mlp.fc1_g", "mlp.fc1_x")),
    "fc2": (("mlp.fc2",),),
}
_BY_NAME = {path.rpartition(".")[2]: path for choices in _PATHS.values() for paths in choices for path in paths}


def layer_path(name: str) -> str:
    """Return the path in a block of a layer, from its last part: `attn.qkv` of `qkv`.

    Raises:
        KeyError: no target has such a layer.
    """
    return _BY_NAME[name]


def target_layers(block: nn.Module, target: str) -> dict[str, nn.Linear]:
    """Return the linear layers of a block that `qkv`, `proj`, `fc1` or `fc2` stands for, by path.

    Raises:
        UserError: the block has none.
    """
    for paths in _PATHS[target]:
        found = {path: _submodule(block, path) for path in paths}
        if all(isinstance(layer, nn.Linear) for layer in found.values()):
            return found  # type: ignore[return-value]
    names = " or ".join(" and ".join(paths) for paths in _PATHS[target])
    raise UserError(
        f"A block of this model has no linear layer '{target}' ({names}): leave it out of `targets`. A block has "
        f"{', '.join(name for name, module in block.named_modules() if isinstance(module, nn.Linear))}."
    )


@dataclass(frozen=True, eq=False)
class LowRankChanges(Entry):
    """Layers of some blocks get the weight W + scale * B A; the model itself is left as it is.

    Attributes:
        factors: for the number of each changed block, its layers' A and B by path, such as `attn.qkv`.
    """

    factors: Mapping[int, Mapping[str, Factors]]
    scale: float

    def bind(self, vit: Any) -> Entry:
        """Return the model with its merged weights, which are computed here, once.

        Raises:
            UserError: the changes are for another architecture.
        """
        if max(self.factors) >= len(vit.blocks):
            raise UserError(f"The changes are for {1 + max(self.factors)} blocks or more, not for {len(vit.blocks)}.")
        blocks = {str(index): _changed(vit.blocks[index], layers, self.scale) for index, layers in self.factors.items()}
        return OwnModel(with_modules(vit, {"blocks": with_modules(vit.blocks, blocks)}))


def merged(weight: Tensor, factors: Factors, scale: float) -> Tensor:
    """Return W + scale * B A in the type of W, computed in float32; the factors stay in the graph."""
    down, up = factors
    if weight.is_meta:  # a model without numbers
        return weight
    return (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)


class ChangedLinear(nn.Module):
    """A linear layer with a merged weight; `factors`, where they are trained, get the gradient of the change.

    The gradients of A and B need two thin products each, that of a merged weight one as large as the layer's own, so
    a training step never computes it.
    """

    def __init__(self, layer: Any, factors: Factors, scale: float) -> None:
        super().__init__()
        weight, self.scale = layer.weight, scale
        self.bias: Tensor | None = layer.bias
        self.factors: Factors | None = None
        if weight.requires_grad:  # a model that is trained itself
            self.weight = merged(weight, factors, scale)
            return
        with torch.no_grad():
            self.weight = merged(weight, factors, scale)
        if torch.is_grad_enabled() and any(factor.requires_grad for factor in factors):
            self.factors = factors

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if self.factors is None:
            return linear(input, self.weight, self.bias)
        output: Tensor = _TrainedProduct.apply(input, self.weight, self.bias, *self.factors, self.scale)
        return output


class _TrainedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(input, weight, down, up)
        ctx.scale = scale
        return product(input, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, Tensor | None, None]:
        input, weight, down, up = ctx.saved_tensors
        to_input = to_down = to_up = None
        rows, inputs = gradient.flatten(0, -2), input.flatten(0, -2)
        if ctx.needs_input_grad[0]:
            to_input = product(gradient, weight.t(), None)
        if ctx.needs_input_grad[3]:
            to_down = ((ctx.scale * (rows @ up.to(rows))).t() @ inputs).to(down)
        if ctx.needs_input_grad[4]:
            to_up = (rows.t() @ (ctx.scale * (inputs @ down.to(inputs).t()))).to(up)
        return to_input, None, None, to_down, to_up, None


def _changed(block: nn.Module, factors: Mapping[str, Factors], scale: float) -> nn.Module:
    """Return a block that shares everything with the given one but the changed layers."""
    result = block
    for path, pair in factors.items():
        layer: Any = block.get_submodule(path)
        wanted = tuple(layer.weight.shape)
        if wanted != (len(pair[1]), pair[0].shape[1]):
            raise UserError(f"The low-rank change of {path} is for another width than the layer's, {wanted}.")
        result = _with(result, path.split("."), ChangedLinear(layer, pair, scale))
    return result


def _with(module: nn.Module, path: Sequence[str], layer: ChangedLinear) -> nn.Module:
    """Return a copy of `module` with one inner layer replaced; everything else is shared."""
    inner = layer if len(path) == 1 else _with(module.get_submodule(path[0]), path[1:], layer)
    own = with_modules(module, {path[0]: inner})
    return with_bias_inside(own) if path[0] == "qkv" else own


def _submodule(block: nn.Module, path: str) -> nn.Module | None:
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None
