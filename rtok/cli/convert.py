"""`rtok convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtok.cli import completion
from rtok.cli.paths import user_path
from rtok.errors import UserError

if TYPE_CHECKING:
    from rtok.conversion import Converted


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            parser=user_path,
            metavar="CKPT",
            help="A defense, a run folder, hf:USER/REPO, or rtokens.pt or last.ckpt of the original code.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            parser=user_path, metavar="OUT", help="The file to write; for transformers and peft, the folder."
        ),
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="dinov2, dinov3, timm, transformers, onnx, torch-export or peft.")
    ] = "dinov2",
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="FILE",
            help="The backbone's weights. Default: the ones the defense was trained on.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The backbone, if neither defense nor weights identify it.",
            autocompletion=completion.models,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="The type of the numbers: fp32, fp16 or bf16.")] = "fp32",
    image_size: Annotated[
        str | None,
        typer.Option(metavar="N", help="For timm, transformers and graphs: the image size in pixels, N or HxW."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Put a defense into a checkpoint that other libraries load.

    Before the file is moved into place, the format's own library reads it back and its features are compared with
    ours.
    """
    from rtok.conversion import convert

    done = convert(
        checkpoint,
        out,
        to=to,
        backbone_weights=backbone_weights,
        model=model,
        dtype=dtype,
        image_size=None if image_size is None else parse_size(image_size),
        overwrite=overwrite,
    )
    typer.echo(summary(done))


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) from `224` or `224x336`, or raise UserError."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UserError(f"--image-size {text}: give pixels, such as 224, or height and width, such as 224x336.")
    return int(sides[0]), int(sides[-1])


def summary(done: Converted) -> str:
    """Return what was written and how closely its features agree with ours."""
    height, width = done.image_size
    own = f" after {done.registers} registers of the model" if done.registers else ""
    inside = f"{done.tokens} robustness tokens{own}" if done.tokens else f"its {done.kind} inside"
    lines = [
        *(f"wrote {path}" for path in done.files),
        f"{done.backbone} with {inside}, {done.dtype}",
        f"read back by {done.reader} at {height} x {width} px: "
        f"largest difference from rtok's features {done.difference:.1e}",
    ]
    if done.rounding:
        lines.append(f"storing in {done.dtype} changes the features by up to {done.rounding:.1e}")
    return "\n".join([*lines, f"load it with: {done.usage}"])
