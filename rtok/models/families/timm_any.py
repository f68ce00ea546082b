"""`timm:NAME`: any plain ViT in timm; everything else is refused with a reason.

`timm:hf-hub:USER/REPO` and `timm:local-dir:PATH` are models that a `config.json` of timm's describes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rtok.errors import UserError, nearest
from rtok.models.locations import FOLDER, HUB, is_location
from rtok.models.naming.timm import TIMM
from rtok.models.spec import ModelSpec

PREFIX = "timm:"
_MODULES = ("vision_transformer", "deit", "eva")  # of timm, with the plain ViTs


def spec_for(name: str, known: Iterable[ModelSpec]) -> ModelSpec:
    """Return the spec of the model `timm:NAME`, by building it on the meta device. Imports timm.

    A model that has its own name (is in `known`) keeps its family's resampling and namings.

    Raises:
        UserError: timm has no such model or no such weights, or it is not a plain ViT; the message has the reason.
    """
    import timm
    import torch

    timm_name = name.removeprefix(PREFIX)
    if not is_location(timm_name):
        _check_exists(timm_name)
    try:
        with torch.device("meta"):
            vit: Any = timm.create_model(timm_name)
    except Exception as error:
        raise _no_description(timm_name, error) from error
    for spec in known:
        if spec.kind == "tokens" and _architecture(spec.timm_name) == vit.pretrained_cfg["architecture"]:
            return replace(spec, name=name, timm_name=timm_name)
    reason = why_not_plain(vit)
    if reason:
        raise UserError(
            f"'{timm_name}' is not a plain ViT: {reason}. Robustness tokens need tokens of patches "
            "that attend to each other in every block, as in 'timm:vit_base_patch16_224'."
        )
    return ModelSpec(
        name=name,
        family="timm",
        timm_name=timm_name,
        patch_size=vit.patch_embed.patch_size[0],
        dim=vit.embed_dim,
        native_size=vit.patch_embed.img_size[0],
        params=round(sum(weight.numel() for weight in vit.parameters()) / 1e6, 1),
        registers=vit.num_prefix_tokens - (vit.cls_token is not None),
        namings=(TIMM,),
    )


def suggestion(name: str) -> str:
    """Return `" Did you mean 'timm:NAME'?"` if timm has a model of that name, else `""`. Imports timm."""
    import timm

    return f" Did you mean '{PREFIX}{name}'?" if timm.is_model(_architecture(name)) else ""


def why_not_plain(vit: Any) -> str:
    """Return why rtok cannot attack and defend this timm model, or the empty string if it can."""
    from timm.layers import PatchEmbed
    from torch import nn

    reason = why_no_tokens(vit)
    if reason:
        return reason
    if vit.cls_token is None and vit.global_pool not in ("avg", "map"):
        return "it has no class token, and pools its patches in no known way"
    if isinstance(vit.norm, nn.Identity):
        return "it has no norm after its last block"
    if type(vit.patch_embed) is not PatchEmbed:
        return f"its images enter through {type(vit.patch_embed).__name__}, not as square patches"
    if len({*vit.patch_embed.patch_size}) > 1 or len({*vit.patch_embed.img_size}) > 1:
        return "its patches or its native images are not square"
    return ""


def why_no_tokens(vit: Any) -> str:
    """Return why tokens cannot be added to the sequence of this timm model, or the empty string if they can."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    base = next((base for base in (VisionTransformer, Eva) if isinstance(vit, base)), None)
    if base is None or type(vit).forward_features is not base.forward_features:
        return f"timm builds it as {type(vit).__name__}"
    if getattr(vit, "rope_mixed", False):
        return "its rotary positions are learned for each block and head"
    if getattr(vit, "rope", None) is not None and not hasattr(vit.rope, "feat_shape"):
        return "its rotary positions are not one table for all blocks"
    return ""


def _architecture(timm_name: str) -> str:
    return timm_name.partition(".")[0]


def _no_description(timm_name: str, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].rstrip('.')}"
    if not timm_name.startswith(HUB):
        return UserError(f"'{timm_name}' has no config.json that timm can build a model from ({reason}).")
    repository = timm_name.removeprefix(HUB)
    return UserError(
        f"{timm_name} could not be downloaded ({reason}). Without a connection, run `hf download {repository} "
        f"--local-dir DIR` where there is one, and name the model {PREFIX}{FOLDER}DIR."
    )


def plain(search: str, known: Iterable[ModelSpec]) -> tuple[list[ModelSpec], int]:
    """Return the plain ViTs with weights whose names contain a text, and how many others there are. Imports timm."""
    import timm

    found: list[ModelSpec] = []
    names = timm.list_pretrained(f"*{search}*")
    vits = {name for module in _MODULES for name in timm.list_models(module=module)}
    for name in filter(lambda name: _architecture(name) in vits, names):  # spares building what cannot be one
        with suppress(UserError):
            found.append(spec_for(f"{PREFIX}{name}", known))
    return found, len(names) - len(found)


def _check_exists(timm_name: str) -> None:
    import timm

    architecture, _, tag = timm_name.partition(".")
    if not timm.is_model(architecture):
        raise UserError(
            f"timm {timm.__version__} has no model '{architecture}'.{nearest(architecture, timm.list_models())}"
        )
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"timm {timm.__version__} has no weights '{tag}' for '{architecture}'; it has {', '.join(tags) or 'none'}."
        )
