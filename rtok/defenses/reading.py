"""The parameters of a defense out of a file that may be damaged, or hold something else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from rtok.checkpoints import Checkpoint, find_tensor
from rtok.errors import UserError


def read_parameter(
    content: Checkpoint,
    path: Path,
    key: str,
    *,
    noun: str,
    shape: Sequence[int | str],
    hint: str = "Give a file that `rtok train` has written.",
) -> Tensor:
    """Return one tensor of a file, in float32, alone in memory.

    Args:
        noun: what it is, for messages.
        shape: a number for a size that is fixed, a word for one that is not.
        hint: what to give instead of a file that has no such tensor.

    Raises:
        UserError: it is missing, of another shape or type, or not finite.
    """
    values = find_tensor(content, key)
    if values is None:
        raise UserError(f"'{path}' holds no {noun}: there is no tensor '{key}' in it. {hint}")
    fits = values.dim() == len(shape) and 0 not in values.shape
    fits = fits and all(isinstance(w, str) or w == size for w, size in zip(shape, values.shape, strict=True))
    if not fits or not values.is_floating_point():
        wanted = ", ".join(map(str, shape))
        raise UserError(
            f"'{key}' in '{path}' has the shape {tuple(values.shape)} ({values.dtype}); {noun} are floating-point "
            f"numbers of shape ({wanted})."
        )
    if not values.isfinite().all():
        raise UserError(
            f"'{key}' in '{path}' holds NaN or infinity: the training diverged. Train again, with a lower "
            "learning rate."
        )
    # a clone: a slice of a whole-model file would keep all of it in memory
    return values.detach().float().clone()
