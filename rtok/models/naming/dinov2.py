"""DINOv2's own names and those of transformers (`Dinov2Model`, `Dinov2WithRegistersModel`)."""

from __future__ import annotations

from rtok.models.naming.rules import Naming, Rule, rename

_MASK_TOKEN = "used in DINOv2's training only"


def official(*, registers: bool = False, swiglu: bool = False) -> Naming:
    """Return the DINOv2 code base's names, which are timm's except for these rules."""
    rules: tuple[Rule, ...] = ()
    if registers:
        rules += (
            Rule(("cls_token", "pos_embed"), ("cls_token", "pos_embed"), "fold_class_position"),
            rename("register_tokens", "reg_token"),
        )
    if swiglu:
        rules += (
            rename("blocks.{i}.mlp.w12.{p}", "blocks.{i}.mlp.fc1.{p}"),
            rename("blocks.{i}.mlp.w3.{p}", "blocks.{i}.mlp.fc2.{p}"),
        )
    return Naming("DINOv2", rules, extras={"mask_token": _MASK_TOKEN})


def transformers(*, registers: bool = False, swiglu: bool = False) -> Naming:
    """Return the names that transformers writes to disk."""
    attention = "encoder.layer.{i}.attention.attention."
    fc1, fc2 = ("weights_in", "weights_out") if swiglu else ("fc1", "fc2")
    theirs, ours = ("embeddings.cls_token", "embeddings.position_embeddings"), ("cls_token", "pos_embed")
    prefix = tuple(map(rename, theirs, ours))
    if registers:
        prefix = Rule(theirs, ours, "fold_class_position"), rename("embeddings.register_tokens", "reg_token")
    rules = (
        *prefix,
        rename("embeddings.patch_embeddings.projection.{p}", "patch_embed.proj.{p}"),
        rename("encoder.layer.{i}.norm1.{p}", "blocks.{i}.norm1.{p}"),
        Rule(
            (attention + "query.{p}", attention + "key.{p}", attention + "value.{p}"),
            ("blocks.{i}.attn.qkv.{p}",),
            "concatenate",
        ),
        rename("encoder.layer.{i}.attention.output.dense.{p}", "blocks.{i}.attn.proj.{p}"),
        rename("encoder.layer.{i}.layer_scale1.lambda1", "blocks.{i}.ls1.gamma"),
        rename("encoder.layer.{i}.norm2.{p}", "blocks.{i}.norm2.{p}"),
        rename("encoder.layer.{i}.mlp." + fc1 + ".{p}", "blocks.{i}.mlp.fc1.{p}"),
        rename("encoder.layer.{i}.mlp." + fc2 + ".{p}", "blocks.{i}.mlp.fc2.{p}"),
        rename("encoder.layer.{i}.layer_scale2.lambda1", "blocks.{i}.ls2.gamma"),
        rename("layernorm.{p}", "norm.{p}"),
    )
    return Naming("transformers", rules, rest_is_same=False, extras={"embeddings.mask_token": _MASK_TOKEN})
