"""OpenCLIP's own names: the image tower of a whole model."""

from __future__ import annotations

from rtok.models.naming.rules import Naming, Rule, rename

_TEXT_TOWER = (
    "positional_embedding",
    "text_projection",
    "token_embedding.*",
    "transformer.*",
    "ln_final.*",
    "attn_mask",
)
_BLOCK = "visual.transformer.resblocks.{i}."

OFFICIAL = Naming(
    "OpenCLIP",
    (
        rename("visual.class_embedding", "cls_token", "add_batch_and_token_axes"),
        rename("visual.positional_embedding", "pos_embed", "add_batch_axis"),
        rename("visual.conv1.weight", "patch_embed.proj.weight"),
        rename("visual.ln_pre.{p}", "norm_pre.{p}"),
        rename(_BLOCK + "ln_1.{p}", "blocks.{i}.norm1.{p}"),
        rename(_BLOCK + "attn.in_proj_{p}", "blocks.{i}.attn.qkv.{p}"),
        rename(_BLOCK + "attn.out_proj.{p}", "blocks.{i}.attn.proj.{p}"),
        rename(_BLOCK + "ln_2.{p}", "blocks.{i}.norm2.{p}"),
        rename(_BLOCK + "mlp.c_fc.{p}", "blocks.{i}.mlp.fc1.{p}"),
        rename(_BLOCK + "mlp.c_proj.{p}", "blocks.{i}.mlp.fc2.{p}"),
        rename("visual.ln_post.{p}", "norm.{p}"),
        Rule(("visual.proj",), ("head.weight", "head.bias"), "projection"),
    ),
    rest_is_same=False,
    extras={
        **dict.fromkeys(_TEXT_TOWER, "the text tower"),
        "logit_scale": "the temperature of the contrastive loss",
        "logit_bias": "the bias of the contrastive loss",
    },
)
