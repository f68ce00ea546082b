"""The input of a conversion: tokens, the backbone they were trained for, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint, read_checkpoint, whole_model
from rtok.defenses import RobustnessTokens, defense_files
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.identify import identify
from rtok.models.loading import Weights, build_backbone, read_plain, read_weights, translate_weights
from rtok.models.registry import find
from rtok.models.spec import ModelSpec
from rtok.release import description


@dataclass(frozen=True)
class Source:
    """A backbone and its tokens.

    `weights.source` holds the tensors that a format stores, `weights.tensors` the same ones with timm's names.
    """

    spec: ModelSpec
    weights: Weights
    tokens: RobustnessTokens

    @property
    def native_size(self) -> tuple[int, int]:
        """The image size (height, width) of the trained position grid."""
        return self.spec.native_size, self.spec.native_size

    @property
    def trained_size(self) -> tuple[int, int]:
        """The image size that the tokens were trained at, else the native one."""
        return self.tokens.image_size or self.native_size

    def square_size(self, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Return the size of a file whose position grid is square: `wanted`, or else the native size.

        Raises:
            UserError: the size is not square.
        """
        if wanted is not None and wanted[0] != wanted[1]:
            raise UserError(
                f"--image-size {wanted[0]}x{wanted[1]} is not square, but this format only takes squares. "
                "Give one number, or use --to onnx."
            )
        return wanted or self.native_size

    def backbone(self, image_size: tuple[int, int]) -> Backbone:
        """Build the frozen backbone, with the normalization that the tokens were trained with."""
        normalization = self.tokens.config.get("model", {}).get("normalization", "auto")
        return build_backbone(self.spec, self.weights.tensors, image_size=image_size, normalization=normalization)

    def rounded(self, dtype: torch.dtype, keep: tuple[str, ...] = ()) -> Source:
        """Return the source with numbers rounded to the type, except for names that end in `keep`.

        Raises:
            UserError: a number is too large for the type.
        """
        if dtype == torch.float32:
            return self
        state = {
            name: tensor if name.endswith(keep) else _rounded(tensor, dtype, name)
            for name, tensor in self.weights.source.items()
        }
        spec = replace(self.spec, namings=(self.weights.naming,))
        values = _rounded(self.tokens.values, dtype, "rtokens")
        return Source(spec, translate_weights(spec, state, Path()), replace(self.tokens, values=values))


def gather(checkpoint: Path, *, model: str | None = None, backbone_weights: Path | None = None) -> Source:
    """Read tokens and find the weights they were trained on.

    Args:
        checkpoint: a token file of ours or of the original code, a whole model with tokens, or a run folder.
        model: the backbone's name, if neither the tokens nor the weights identify it.
        backbone_weights: a file. Default: the weights in the checkpoint, else those named in the tokens'
            training config, else the pretrained ones.

    Raises:
        UserError: tokens or weights are missing, or the weights are not the ones in the checkpoint.
    """
    content, tokens = _read_tokens(checkpoint)
    inside = whole_model(content)
    named = model or tokens.backbone
    path = backbone_weights or checkpoint
    if backbone_weights is not None:
        given = read_plain(backbone_weights)
    elif inside:
        given = inside
    elif named is not None:
        return Source(find(named), read_weights(find(named), _recorded_weights(tokens)), tokens)
    else:
        raise UserError(
            f"The tokens in '{checkpoint}' do not say which backbone they were trained for. "
            "Name it with --model, or pass its weights with --backbone-weights."
        )
    spec = find(named) if named is not None else _identified(given, path)
    weights = translate_weights(spec, given, path)
    if inside and given is not inside:
        _check_same(weights, translate_weights(spec, inside, checkpoint), path, checkpoint)
    return Source(spec, weights, tokens)


def _recorded_weights(tokens: RobustnessTokens) -> str:
    """Return the weights named in the tokens' training config, by default `pretrained`."""
    recorded = str(tokens.config.get("model", {}).get("weights", "pretrained"))
    if recorded != "pretrained" and not Path(recorded).is_file():
        raise UserError(
            f"The tokens were trained on the weights '{recorded}', but there is no such file here. "
            "Pass these weights with --backbone-weights."
        )
    return recorded


def _read_tokens(path: Path) -> tuple[Checkpoint, RobustnessTokens]:
    """Read a token file, or the only one in a folder."""
    files = defense_files(path)
    if len(files) > 1:
        names = ", ".join(f"'{file}'" for file in files)
        raise UserError(f"The folder '{path}' holds {len(files)} token files; choose one of them: {names}.")
    content = read_checkpoint(files[0])
    about = description(content.metadata)
    if about is not None and about["target"] != "robustify":
        raise UserError(
            f"'{files[0]}' is already a converted model ({about['target']}, {about['tokens']['n']} robustness "
            "tokens). Convert the token file that it was made from."
        )
    return content, RobustnessTokens.parse(content, files[0])


def _identified(state: Mapping[str, Tensor], path: Path) -> ModelSpec:
    found = [spec for spec, _ in identify(state, path)]
    if len(found) != 1:
        what = "fit no backbone that `rtok models` lists" if not found else "fit several backbones: "
        raise UserError(
            f"The weights in '{path}' {what}{', '.join(spec.name for spec in found)}. Name the backbone with --model."
        )
    return found[0]


def _check_same(given: Weights, inside: Weights, path: Path, checkpoint: Path) -> None:
    # compared in bfloat16, since copies may differ in precision
    different = [
        name
        for name, tensor in given.tensors.items()
        if not torch.equal(tensor.to(torch.bfloat16), inside.tensors[name].to(torch.bfloat16))
    ]
    if different:
        raise UserError(
            f"The weights in '{path}' are not those of the model in '{checkpoint}': {len(different)} tensors "
            f"differ, such as {different[0]}. Leave --backbone-weights out, or pass the weights of that model."
        )


def _rounded(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    result = tensor.to(dtype).to(torch.float32)
    if not torch.equal(result.isfinite(), tensor.isfinite()):
        raise UserError(
            f"'{name}' holds numbers up to {tensor.abs().max():g}, too large for {dtype}: use bf16 or fp32."
        )
    return result
