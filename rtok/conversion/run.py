"""One conversion: read, check, write, read back, compare; only then does the file get its name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rtok.conversion.model import DTYPES, RobustModel
from rtok.conversion.source import Source, gather
from rtok.conversion.targets import find_target
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.loading import check_size

# The largest difference that arithmetic in another order explains, in units of the largest feature.
TOLERANCE = 1e-4
# DINOv3's rotary periods are constants, not weights: rounded, they would turn every angle.
_ALWAYS_FLOAT32 = (".periods",)

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        files: what was written, the model first.
        registers, tokens: the model's own registers, and the robustness tokens after them.
        difference: the largest difference between the features that the target library computes from the
            file and ours, from the same numbers.
        rounding: how far storing the numbers in `dtype` alone moves a feature; 0 for fp32.
        image_size: (height, width) at which they were compared, and for which a sized format is made.
        reader: the library that read the file back.
        usage: one line that loads the file.
    """

    target: str
    backbone: str
    files: list[Path]
    registers: int
    tokens: int
    dtype: str
    image_size: tuple[int, int]
    difference: float
    rounding: float
    reader: str
    usage: str


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    to: str = "dinov2",
    model: str | None = None,
    backbone_weights: str | Path | None = None,
    dtype: str = "fp32",
    image_size: int | tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Bake tokens into a checkpoint that another library loads.

    Args:
        checkpoint: a token file of ours or of the original, a whole model with tokens, or a run folder.
        out: the file to write, or for `transformers` the folder.
        to: `dinov2`, `dinov3`, `timm`, `transformers` or `onnx`.
        model: the backbone's name, where the tokens do not say and the weights do not tell.
        backbone_weights: the backbone's weights in any naming of its family; by default those in the
            checkpoint, those that the tokens' training config names, or the pretrained ones.
        dtype: the type in which numbers are stored: `fp32`, `fp16` or `bf16`.
        image_size: pixels, for formats that are made for one size.
        overwrite: replace files of these names.

    Raises:
        UserError: the input is wrong; nothing has been written then.
        RuntimeError: the target library computes other features from the file; it has been removed then.
    """
    out, target = Path(out), find_target(to)
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: no such type. Valid: {', '.join(DTYPES)}.")
    if not out.name:
        raise UserError(f"'{out}' is a folder: name what to write in it.")
    outputs = target.outputs(out)
    _check_free(outputs, overwrite)
    source = gather(
        Path(checkpoint),
        model=model,
        backbone_weights=None if backbone_weights is None else Path(backbone_weights),
    )
    size = target.image_size(source, (image_size, image_size) if isinstance(image_size, int) else image_size)
    check_size(source.spec, size)
    exact = RobustModel(source, source.backbone(size), "fp32", fingerprint="")
    fingerprint = _check_match(source, exact.backbone)
    arranged = target.arrange(source, size).rounded(DTYPES[dtype], keep=_ALWAYS_FLOAT32)
    robust = RobustModel(arranged, arranged.backbone(size), dtype, fingerprint)
    with _staged(out, outputs) as staged:
        target.write(robust, staged)
        ours = exact if dtype == "fp32" else robust
        difference = _compare(ours.features, target.read(staged, robust), size, to)
    return Converted(
        target=to,
        backbone=source.spec.name,
        files=[path for path in outputs if path.exists()],
        registers=exact.backbone.num_registers,
        tokens=source.tokens.count,
        dtype=dtype,
        image_size=size,
        difference=difference,
        reader=target.reader,
        usage=target.usage(robust, out),
        rounding=0.0 if dtype == "fp32" else _largest_difference(exact.features, robust.features, size)[0],
    )


def _check_free(outputs: list[Path], overwrite: bool) -> None:
    for path in outputs:
        if path.is_dir():
            raise UserError(f"'{path}' is a folder: name a file.")
        if path.parent.is_file():
            raise UserError(f"'{path.parent}' is a file: name a folder.")
        if path.exists() and not overwrite:
            raise UserError(f"'{path}' exists already: replace it with --overwrite, or name another file.")


def _check_match(source: Source, backbone: Backbone) -> str:
    """Refuse tokens for another backbone or other weights of it; return these weights' fingerprint."""
    source.tokens.check(backbone)
    expected, found = source.tokens.fingerprint, backbone.fingerprint()
    if expected not in (None, found):
        raise UserError(
            f"The tokens were trained on other weights of '{source.spec.name}' (fingerprint {expected}) than "
            f"these (fingerprint {found}). Give with --backbone-weights those that they were trained on."
        )
    return found


def _compare(ours: Features, theirs: Features, size: tuple[int, int], target: str) -> float:
    difference, largest = _largest_difference(ours, theirs, size)
    if not difference <= TOLERANCE * max(1.0, largest):  # also when it is not a number
        raise RuntimeError(
            f"The {target} file computes other features than rtok: they differ by up to {difference:.2g} "
            f"(the largest is {largest:.2g}). It was not kept."
        )
    return difference


def _largest_difference(ours: Features, theirs: Features, size: tuple[int, int]) -> tuple[float, float]:
    """Return the largest difference on random images, as a batch and alone, and our largest feature."""
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    pairs = [(ours(batch), theirs(batch)) for batch in (images, images[:1])]
    difference = max((a - b).abs().max().item() for a, b in pairs)
    return difference, pairs[0][0].abs().max().item()


@contextmanager
def _staged(out: Path, outputs: list[Path]) -> Iterator[Path]:
    """Yield `out`'s stand-in in a temporary folder beside it; on success every output takes its place."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}. Name another place.") from error
    try:
        yield folder / out.name
        (folder / ".mode").touch()
        mode = (folder / ".mode").stat().st_mode  # safetensors writes files that only their owner can read
        for path in reversed(outputs):  # the model last: where it is, all is
            staged = folder / path.relative_to(out.parent)
            if staged.exists():
                staged.chmod(mode)
                path.parent.mkdir(exist_ok=True)
                os.replace(staged, path)
            else:
                path.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
