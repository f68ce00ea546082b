"""Copies of a module that share everything with it but some parts: the module itself is never changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def with_modules(module: M, inner: Mapping[str, nn.Module]) -> M:
    """Return a copy of `module` with other modules in some of its places, by name; everything else is shared."""
    own = copy.copy(module)
    own._modules = {**module._modules, **inner}
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
