"""A backbone from a model of transformers that a program has in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from rtok.checkpoints import read_checkpoint
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.identify import only_match
from rtok.models.loading import build_backbone, check_size, translate_weights
from rtok.models.naming import clip
from rtok.models.registry import find
from rtok.models.spec import ModelSpec

_DINO = ("Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel")
_CLIP = "CLIPVisionModel"
# timm's word for the width of a token in CLIP's image towers
_CLIP_SIZES = {768: "base", 1024: "large", 1280: "huge"}
_PREFIX = "vision_model."  # of CLIP's names in files that hold the text tower too


def backbone_from(
    model: nn.Module, *, image_size: int | tuple[int, int] = 224, normalization: str = "auto"
) -> Backbone:
    """Return a frozen backbone with the weights of a model of transformers, which is left as it is.

    Args:
        model: a `Dinov2Model`, `Dinov2WithRegistersModel` or `DINOv3ViTModel` of a size that `rtok models` lists, or a
            `CLIPVisionModel`. The features of the last have its final norm on the patches too.
        image_size: pixels, one number or (height, width); multiples of the patch size.
        normalization: `auto` for the family's own mean and standard deviation, or `imagenet`.

    Raises:
        UserError: it is another model, or of a size that rtok does not know.
    """
    kind = type(model).__name__
    if kind not in (*_DINO, _CLIP) or not hasattr(model, "save_pretrained"):
        raise UserError(f"backbone_from takes a {', '.join(_DINO)} or {_CLIP} of transformers, not a {kind}.")
    state = _as_saved(model)
    spec = _clip_spec(model) if kind == _CLIP else only_match(state, Path(kind))
    size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    check_size(spec, size)
    weights = translate_weights(spec, state, Path(kind))
    return build_backbone(spec, weights.tensors, image_size=size, normalization=normalization)


def _as_saved(model: Any) -> dict[str, Tensor]:
    """Return the weights under the names that files have: those in memory change from version to version."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size="1TB")  # one file
        content = read_checkpoint(Path(folder) / "model.safetensors")
        return {name.removeprefix(_PREFIX): tensor for name, tensor in content.items()}


def _clip_spec(model: Any) -> ModelSpec:
    about = model.config
    size = _CLIP_SIZES.get(about.hidden_size)
    if size is None or about.hidden_act not in ("quick_gelu", "gelu"):
        widths = ", ".join(map(str, _CLIP_SIZES))
        raise UserError(
            f"The {_CLIP} has tokens of width {about.hidden_size} and the activation {about.hidden_act}; valid are "
            f"{widths} and quick_gelu or gelu."
        )
    variant = "quickgelu_" if about.hidden_act == "quick_gelu" else ""
    spec = find(f"timm:vit_{size}_patch{about.patch_size}_clip_{variant}224")
    return replace(spec, native_size=about.image_size, namings=(clip.TRANSFORMERS,))
