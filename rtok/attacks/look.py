"""One look of an attack at its surrogate: the loss of images, who is fooled, and the gradient."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.attacks.graphs import Graphs
from rtok.models.half import gradients_are_exact

if TYPE_CHECKING:
    from rtok.attacks.objective import Chosen, Criterion, Model

    Members = Sequence[tuple[float, Model]]


class Look(NamedTuple):
    """What an objective says of images (B, C, H, W); nothing carries a graph.

    Attributes:
        loss: (B,).
        fooled: the weight (B,) of the surrogate's members that are wrong about the image, in [0, 1]; of a mask, the
            part of it that they are wrong about.
        gradient: (B, C, H, W), of the loss with respect to the images.
    """

    loss: Tensor
    fooled: Tensor
    gradient: Tensor


def look(
    members: Members,
    criterion: Criterion,
    images: Tensor,
    asked: Chosen,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> Look:
    """Return what weighted models and a criterion say of images: those at `asked` of the criterion's batch."""
    images = images.detach().requires_grad_(True)
    seen = images if augment is None else augment(images)
    outputs = [(weight, model(seen)) for weight, model in members]
    loss, fooled = mean_loss(criterion, outputs, asked), mean_fooled(criterion, outputs, asked)
    # The sum, not the mean: an image's gradient must not depend on how many others are in its batch.
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    return Look(loss.detach(), fooled, gradient)


def captured_look(graphs: Graphs, members: Members, criterion: Criterion, images: Tensor, asked: Chosen) -> Look:
    """Return the same from a graph, which the same models and criteria of the same kind share.

    A criterion's tensors, such as targets and labels, are inputs of the graph if it is a dataclass. Images at places of
    a batch, of which an attack drops more and more, are filled up to sizes that came before.
    """
    given: Any = criterion
    names: list[str] = [part.name for part in fields(given)] if is_dataclass(criterion) else []
    parts: dict[str, Any] = {name: getattr(given, name) for name in names}
    tensors = {name: value for name, value in parts.items() if isinstance(value, Tensor)}
    constants = tuple((name, value) for name, value in parts.items() if name not in tensors)
    if not all(isinstance(value, Hashable) for _, value in constants):
        return look(members, criterion, images, asked)
    B, places = len(images), list[Tensor]()
    if isinstance(asked, Tensor):
        missing = graphs.sizes.filled(B) - B
        images = F.pad(images, (0, 0) * (images.ndim - 1) + (0, missing))
        places = [torch.cat([asked, asked[-1:].expand(missing)])]

    def function(images: Tensor, *inputs: Tensor) -> Look:
        own = replace(given, **dict(zip(tensors, inputs, strict=False))) if tensors else criterion
        return look(members, own, images, inputs[-1] if places else asked)

    which = type(criterion) if parts else id(criterion)
    part = None if isinstance(asked, Tensor) else (asked.start, asked.stop)
    same = (*((weight, id(model)) for weight, model in members), which, constants, part, gradients_are_exact())
    found = graphs.run(function, [images, *tensors.values(), *places], same, alive=(members, criterion))
    return Look(*(values[:B] for values in found))


def mean_loss(criterion: Criterion, outputs: Sequence[tuple[float, Tensor]], asked: Chosen) -> Tensor:
    """Return the weighted mean (b,) of a criterion's losses of several outputs, whose weights sum to one."""
    return summed([weight * criterion(output, asked) for weight, output in outputs])


@torch.no_grad()
def mean_fooled(criterion: Criterion, outputs: Sequence[tuple[float, Tensor]], asked: Chosen) -> Tensor:
    """Return the weighted mean (b,) of how much of several outputs is wrong."""
    return summed([weight * criterion.fooled(output, asked) for weight, output in outputs])


def summed(terms: list[Tensor]) -> Tensor:
    """Return the sum of one tensor or more."""
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum(0)
