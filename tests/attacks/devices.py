"""What only a GPU does, on a CPU: operations that wait for the device are counted, and graphs are recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

aten = torch.ops.aten
# What a device's value decides, or whose result's size does: the host has to wait for it.
WAITS = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.bincount, aten.is_nonzero),
    *(aten._unique, aten._unique2, aten.unique_dim, aten.unique_consecutive),
}
BY_MASK = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index}
# These say nothing to the dispatcher on a CPU.
FETCHES = {Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__array__}


def waits(func: Any, args: Any) -> bool:
    """Whether an operator waits for a GPU."""
    packet = func.overloadpacket
    masks = (index for index in tree_leaves(args[1:2]) if isinstance(index, Tensor))
    return packet in WAITS or (packet in BY_MASK and any(mask.dtype in (torch.bool, torch.uint8) for mask in masks))


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for the device that some tensors, and all that comes of them, lie on."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.count = 0
        self._there = WeakIdKeyDictionary()
        self._fetches = _Fetches(self)
        for tensor in tensors:
            self._there[tensor] = True

    def are_there(self, values: Any) -> bool:
        return any(isinstance(value, Tensor) and value in self._there for value in tree_leaves(values))

    def __enter__(self) -> Waits:
        self._fetches.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._fetches.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.are_there((args, kwargs)):
            self.count += waits(func, args)
            for value in tree_leaves(result):
                if isinstance(value, Tensor):
                    self._there[value] = True
        return result


class _Fetches(TorchFunctionMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits.count += func in FETCHES and self.waits.are_there(args)
        return func(*args, **(kwargs or {}))


class Recorded:
    """Captures functions as a CUDA graph does: a replay runs the same operators on the same tensors, and no Python."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(
        self, function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
    ) -> tuple[Callable[[], None], Sequence[Tensor]]:
        self.captures += 1
        tape = _Tape()
        with tape:
            outputs = function(*inputs)

        @torch.no_grad()
        def replay() -> None:
            self.replays += 1
            for func, args, kwargs, result in tape.calls:
                _again(func, args, kwargs, result)

        return replay, outputs


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits(func, args):
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


def _again(func: Any, args: Any, kwargs: Any, result: Any) -> None:
    given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
    before = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
    if func._schema.is_mutable:
        func(*args, **kwargs)
    elif any(value.untyped_storage()._cdata not in given for value in before):  # not a view
        now = [value for value in tree_leaves(func(*args, **kwargs)) if isinstance(value, Tensor)]
        for place, value in zip(before, now, strict=True):
            place.copy_(value)
