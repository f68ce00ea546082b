"""CUDA graphs: what an attack asks of a model at each step is captured once and replayed, without its launches.

A GPU waits for the host when a step's few hundred kernels are small. A graph launches them at once; it is a recording:
it runs the same kernels on the same memory, whatever Python would do now. So only what is the same at every step is
captured, its inputs are copied to where the recording reads them, and its outputs from where it leaves them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rtok.compute import Compute
from rtok.errors import UserError
from rtok.models.compiled import Sizes

Function = Callable[..., tuple[Tensor, ...]]
# From a function and the tensors that it always reads to what replays it, and the tensors that it always writes.
Capture = Callable[[Function, Sequence[Tensor]], "tuple[Callable[[], None], Sequence[Tensor]]"]

# So many graphs are kept: an attack has one for each size of a micro-batch and member of an ensemble. Of functions that
# were called once, more are remembered: a surrogate that is new at every step is never captured.
KEPT, REMEMBERED = 8, 32


@dataclass
class _Captured:
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    replay: Callable[[], None]
    alive: object  # what `same` names by its id


class Graphs:
    """Functions of tensors, captured when they are called a second time.

    A replay reads a model's parameters where they lie, so it sees what an optimizer wrote there. A model with other
    tensors has to be another object.

    Attributes:
        sizes: those of batches that the functions had.

    Args:
        capture: records a function; None means `OnGPU`.
    """

    def __init__(self, capture: Capture | None = None) -> None:
        self.sizes = Sizes()
        self._capture = capture or OnGPU()
        self._captured: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._seen: OrderedDict[Hashable, object] = OrderedDict()

    def run(
        self, function: Function, inputs: Sequence[Tensor], same: tuple[Any, ...], alive: object
    ) -> Sequence[Tensor]:
        """Return what a function returns, as tensors of the caller's own.

        Args:
            inputs: all tensors that may be others at the next call.
            same: calls with equal values here, and inputs of the same shapes, have the same function.
            alive: kept as long as the recording, so that an `id` in `same` is not given to something else.
        """
        key = (*same, *((value.shape, value.dtype, value.device) for value in inputs))
        if key not in self._captured and not self._is_known(key, alive):
            return function(*inputs)  # which also sets up what a library sets up at its first use
        if key not in self._captured:
            own = [value.detach().clone() for value in inputs]
            replay, outputs = self._capture(function, own)
            _put(self._captured, key, _Captured(own, outputs, replay, alive), KEPT)
        found = self._captured[key]
        self._captured.move_to_end(key)
        for place, value in zip(found.inputs, inputs, strict=True):
            place.copy_(value)
        found.replay()
        return [output.clone() for output in found.outputs]

    def _is_known(self, key: Hashable, alive: object) -> bool:
        if key in self._seen:
            del self._seen[key]
            return True
        _put(self._seen, key, alive, REMEMBERED)
        return False


class OnGPU:
    """Captures with `torch.cuda.graph`; all graphs share the memory of their intermediate results."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Function, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Sequence[Tensor]]:
        """Record a function.

        Raises:
            UserError: it waits for the device, or does something else that a graph cannot hold.
        """
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        try:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # what is set up per stream is set up before the recording
                function(*inputs)
            torch.cuda.current_stream().wait_stream(side)
            # The loader's thread, which pins memory, may go on meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=side, capture_error_mode="thread_local"):
                outputs = function(*inputs)
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise UserError(
                f"compile: cuda-graphs: the gradient of this model cannot be captured ({reason}): use compile: false."
            ) from error
        return graph.replay, outputs


def graphs_for(compute: Compute) -> Graphs | None:
    """Return what captures the passes of attacks, where a run is to have them captured."""
    return Graphs() if compute.graphs else None


def _put(kept: OrderedDict[Hashable, Any], key: Hashable, value: Any, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)
