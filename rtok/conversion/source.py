"""The input of a conversion: a defense, the backbone it was trained for, and its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint, read_checkpoint, whole_model
from rtok.defenses import Defense, RobustnessTokens
from rtok.defenses.files import only_file, parse_defense
from rtok.defenses.hub import local_file
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.identify import only_match
from rtok.models.loading import Weights, build_backbone, read_plain, read_weights, translate_weights
from rtok.models.locations import is_location
from rtok.models.registry import find
from rtok.models.spec import ModelSpec
from rtok.models.weights import translate_back
from rtok.release import made_with, refuse_converted


@dataclass(frozen=True)
class Source:
    """A backbone and its defense.

    `weights.source` holds the tensors that a format stores, `weights.tensors` the same ones with timm's names.
    """

    spec: ModelSpec
    weights: Weights
    defense: Defense

    @property
    def tokens(self) -> RobustnessTokens | None:
        """The defense where it is tokens, which formats store as registers."""
        return self.defense if isinstance(self.defense, RobustnessTokens) else None

    @property
    def count(self) -> int:
        """How many registers the defense becomes."""
        return 0 if self.tokens is None else self.tokens.count

    def merged(self) -> Source:
        """Return the source with the defense in its weights, for a kind that goes in there; any other as it is."""
        changed = self.defense.merged_into(self.weights.tensors)
        if changed is None:
            return self
        before = translate_back(self.weights.tensors, self.weights.naming)
        after = translate_back(changed, self.weights.naming)
        # all that did not change keeps the file's own bits
        others = {name: tensor for name, tensor in after.items() if not torch.equal(tensor, before[name])}
        source = {**self.weights.source, **others}
        return replace(self, weights=replace(self.weights, tensors=changed, source=source))

    @property
    def native_size(self) -> tuple[int, int]:
        """The image size (height, width) of the trained position grid."""
        return self.spec.native_size, self.spec.native_size

    @property
    def trained_size(self) -> tuple[int, int]:
        """The image size that the tokens were trained at, else the native one."""
        return self.defense.image_size or self.native_size

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
        """Build the frozen backbone, with the normalization that the defense was trained with."""
        normalization = self.defense.config.get("model", {}).get("normalization", "auto")
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
        values = {name: _rounded(value, dtype, name) for name, value in self.defense.parameters().items()}
        return Source(spec, translate_weights(spec, state, Path()), self.defense.replaced(values))


def gather(checkpoint: Path, *, model: str | None = None, backbone_weights: Path | None = None) -> Source:
    """Read a defense and find the weights it was trained on.

    Args:
        checkpoint: a file of ours or of the original code, a whole model with a defense, or a run folder.
        model: the backbone's name, if neither the defense nor the weights identify it.
        backbone_weights: a file. Default: the weights in the checkpoint, else those named in the defense's
            training config, else the pretrained ones.

    Raises:
        UserError: the defense or the weights are missing, or the weights are not the ones in the checkpoint.
    """
    content, defense = _read_defense(checkpoint)
    inside = defense.parameters() if defense.replaces_backbone else whole_model(content)
    named = model or defense.backbone
    path = backbone_weights or checkpoint
    if backbone_weights is not None:
        given = read_plain(backbone_weights)
    elif inside:
        given = inside
    elif named is not None:
        return Source(find(named), read_weights(find(named), _recorded_weights(defense)), defense)
    else:
        raise UserError(
            f"The {defense.noun} in '{checkpoint}' do not say which backbone they were trained for. "
            "Name it with --model, or pass its weights with --backbone-weights."
        )
    spec = find(named) if named is not None else only_match(given, path)
    weights = translate_weights(spec, given, path)
    if inside and given is not inside and not defense.replaces_backbone:
        _check_same(weights, translate_weights(spec, inside, checkpoint), path, checkpoint)
    return Source(spec, weights, defense)


def _recorded_weights(defense: Defense) -> str:
    """Return the weights named in the defense's training config, by default `pretrained`."""
    recorded = str(defense.config.get("model", {}).get("weights", "pretrained"))
    if recorded != "pretrained" and not is_location(recorded) and not Path(recorded).is_file():
        raise UserError(
            f"The {defense.noun} were trained on the weights '{recorded}', but there is no such file here. "
            "Pass these weights with --backbone-weights."
        )
    return recorded


def _read_defense(path: Path) -> tuple[Checkpoint, Defense]:
    """Read a defense's file, or the only one in a folder."""
    file = only_file(path)
    content = read_checkpoint(local_file(file))
    refuse_converted(content, file, "Convert the file that it was made from.")
    # weights that others made are no defense to put into a backbone: without a kind, a file holds tokens
    read = parse_defense if "kind" in made_with(content.metadata) else RobustnessTokens.parse
    return content, read(content, file)


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
