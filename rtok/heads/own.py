"""The classifier that a supervised backbone was trained with, such as DeiT-III's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import Tensor, nn

from rtok.errors import UserError
from rtok.heads.linear import Layout, LinearHead
from rtok.models.loading import read_weights
from rtok.models.registry import MODULE

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone
    from rtok.models.spec import ModelSpec


def own_classifier(backbone: Backbone, weights: str | Path) -> LinearHead:
    """Return the backbone's own classifier on the class token, read from `weights`, as the backbone was.

    Of a module that a Python program gave, the output is the logits.

    Raises:
        UserError: the weights have no classifier, or it does not read the normalized class token.
    """
    spec, vit = backbone.spec, backbone.vit
    if spec.name.startswith(MODULE) and backbone.kind == "embedding":  # its output is the logits
        return LinearHead(torch.eye(backbone.dim), torch.zeros(backbone.dim))
    no_classifier = UserError(
        f"head.type is backbone, but {spec.name} has no classifier on its class token: use "
        "head: {type: fit}, or {type: linear, path: FILE}."
    )
    if backbone.kind == "embedding" or vit.global_pool != "token" or not isinstance(vit.fc_norm, nn.Identity):
        raise no_classifier
    source = _pretrained(spec) if weights == "pretrained" else read_weights(spec, weights).source
    if not {"head.weight", "head.bias"} <= source.keys():
        raise no_classifier
    return LinearHead(source["head.weight"].float(), source["head.bias"].float(), Layout(1, average=False))


def _pretrained(spec: ModelSpec) -> dict[str, Tensor]:
    # The backbone was just downloaded, so timm takes this from its cache.
    vit: Any = timm.create_model(spec.timm_name, pretrained=True, **spec.timm_kwargs)
    return {f"head.{name}": tensor for name, tensor in vit.head.state_dict().items()}
