"""One conversion: read, check, write, read back and compare; only then is the file moved into place."""

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

# The largest difference that another order of operations explains, relative to the largest feature.
TOLERANCE = 1e-4
# The same for a graph that computes in a half type, in roundings of that type. Seen: 8 of fp16, over 12 blocks.
HALF_TOLERANCE = 16
# DINOv3's rotary periods are constants, not weights. Rounding them would change every angle.
_ALWAYS_FLOAT32 = (".periods",)

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        files: the files written, the model first.
        registers: the number of the model's own registers.
        kind: of the defense.
        tokens: the number of robustness tokens after the registers; 0 for a kind that becomes none.
        image_size: (height, width) at which features were compared; a format for one size is made for it.
        difference: the largest difference between the features that the target library computes from the
            file and ours, given the same numbers, computed in float32.
        rounding: how far storing the numbers in `dtype` moves a feature at most; 0 for fp32.
        reader: the library that read the file back.
        usage: one line that loads the file.
    """

    target: str
    backbone: str
    files: list[Path]
    registers: int
    kind: str
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
    """Put a defense into a checkpoint that another library loads.

    Tokens become registers, a LoRA becomes part of the weights, and other kinds go into an ONNX graph.

    Args:
        checkpoint: a defense's file, one of the original code's, a whole model with a defense, or a run folder.
        out: the file to write; for `transformers` and `peft`, the folder.
        to: `dinov2`, `dinov3`, `timm`, `transformers`, `onnx`, `torch-export` or, for a LoRA alone, `peft`.
        model: the backbone's name, if neither the defense nor the weights identify it.
        backbone_weights: the backbone's weights in any naming of its family. Default: those in the
            checkpoint, else those named in its training config, else the pretrained ones.
        dtype: the type in which numbers are stored, `fp32`, `fp16` or `bf16`; in a graph (`onnx` with `fp16`,
            `torch-export`) also the one that the transformer computes in.
        image_size: in pixels, for formats that are made for one size.
        overwrite: replace existing files.

    Raises:
        UserError: the input is wrong; nothing was written.
        RuntimeError: the target library computes different features from the file; the file was removed.
    """
    out, target = Path(out), find_target(to)
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: no such type. Valid: {', '.join(DTYPES)}.")
    if not out.name:
        raise UserError(f"'{out}' is a folder: name what to write in it.")
    outputs = target.outputs(out)
    _check_free(outputs, overwrite)
    source = gather(
        Path(checkpoint), model=model, backbone_weights=None if backbone_weights is None else Path(backbone_weights)
    )
    whole = source.merged() if target.merges else source
    if source.tokens is None and whole is source and not target.holds_entries:
        raise UserError(f"--to {to} cannot hold {source.defense.noun}: use --to onnx, or `rtok.robustify` in Python.")
    size = target.image_size(source, (image_size, image_size) if isinstance(image_size, int) else image_size)
    check_size(source.spec, size)
    exact = RobustModel(source, source.backbone(size), "fp32", fingerprint="")
    fingerprint = _check_match(source, exact.backbone)
    arranged = target.arrange(whole, size).rounded(DTYPES[dtype], keep=_ALWAYS_FLOAT32)
    robust = RobustModel(arranged, arranged.backbone(size), dtype, fingerprint, merged=whole is not source)
    with _staged(out, outputs) as staged:
        target.write(robust, staged)
        ours = exact if dtype == "fp32" else robust
        tolerance = HALF_TOLERANCE * torch.finfo(DTYPES[dtype]).eps if dtype in target.computes_in else TOLERANCE
        difference = _compare(ours.features, target.read(staged, robust), size, to, tolerance)
    return Converted(
        target=to,
        backbone=source.spec.name,
        files=[path for path in outputs if path.exists()],
        registers=exact.backbone.num_registers,
        kind=source.defense.kind,
        tokens=source.count,
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
            raise UserError(f"'{path}' already exists: replace it with --overwrite, or name another file.")


def _check_match(source: Source, backbone: Backbone) -> str:
    """Return the weights' fingerprint; raise UserError if the defense is for another backbone or other weights."""
    source.defense.check(backbone, weights=False)
    expected, found = source.defense.fingerprint, backbone.fingerprint()
    if expected not in (None, found) and not source.defense.replaces_backbone:
        raise UserError(
            f"The {source.defense.noun} were trained on other weights of '{source.spec.name}' (fingerprint {expected}) "
            f"than these (fingerprint {found}). Pass the weights they were trained on with --backbone-weights."
        )
    return found


def _compare(ours: Features, theirs: Features, size: tuple[int, int], target: str, tolerance: float) -> float:
    difference, largest = _largest_difference(ours, theirs, size)
    if not difference <= tolerance * max(1.0, largest):  # NaN fails too
        raise RuntimeError(
            f"The {target} file computes different features than rtok: they differ by up to {difference:.2g} "
            f"(the largest feature is {largest:.2g}). The file was not kept."
        )
    return difference


def _largest_difference(ours: Features, theirs: Features, size: tuple[int, int]) -> tuple[float, float]:
    """Return the largest difference on random images (a batch and a single one), and our largest feature."""
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    pairs = [(ours(batch), theirs(batch)) for batch in (images, images[:1])]
    difference = max((a - b).abs().max().item() for a, b in pairs)
    return difference, pairs[0][0].abs().max().item()


@contextmanager
def _staged(out: Path, outputs: list[Path]) -> Iterator[Path]:
    """Yield a path for `out` in a temporary folder beside it; on success, move every output into place."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}. Choose another folder.") from error
    try:
        yield folder / out.name
        (folder / ".mode").touch()
        mode = (folder / ".mode").stat().st_mode  # safetensors makes files private
        for path in reversed(outputs):  # the model last: if it exists, all do
            staged = folder / path.relative_to(out.parent)
            if staged.exists():
                staged.chmod(mode)
                path.parent.mkdir(exist_ok=True)
                os.replace(staged, path)
            else:
                path.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
