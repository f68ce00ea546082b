"""Copies of a module that share everything with it but some parts: the module itself is never changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def with_modules(module: M, inner: Mapping[str, nn.Module]) -> M:
    """Return a copy of `module` with other modules in some of its places, by name; everything else is shared."""
    own = copy.copy(module)
    own._modules = {**module._modules, **inner}
    return own


def with_bias_inside(own: M) -> M:
    """Move the bias that timm's `EvaAttention` has beside `qkv` into that layer, which must be the copy's own.

    With a bias beside it, timm takes the weight out of the layer and never calls it.
    """
    attention: Any = own
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        attention.qkv.bias = bias.to(attention.qkv.weight.dtype)
        attention._parameters = {**attention._parameters, "q_bias": None}
    return own


def with_tensors(module: M, tensors: Mapping[str, Tensor]) -> M:
    """Return a copy of `module` with other parameters and buffers, by their dotted names; everything else is shared.

    They may be any tensors, such as leaves of a graph or what was computed from some.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first if rest else "", {})[rest or first] = tensor
    here = parts.pop("", {})
    own = with_modules(module, {name: with_tensors(module.get_submodule(name), inner) for name, inner in parts.items()})
    for place in ("_parameters", "_buffers"):
        mine = getattr(module, place)
        setattr(own, place, {name: here.get(name, tensor) for name, tensor in mine.items()})
    return own
