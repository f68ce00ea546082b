"""The names of transformers' `CLIPVisionModel`."""

from __future__ import annotations

from rtok.models.naming.rules import Naming, Rule, rename

_LAYER = "encoder.layers.{i}."

TRANSFORMERS = Naming(
    "transformers",
    (
        rename("embeddings.class_embedding", "cls_token", "add_batch_and_token_axes"),
        rename("embeddings.position_embedding.weight", "pos_embed", "add_batch_axis"),
        rename("embeddings.patch_embedding.weight", "patch_embed.proj.weight"),
        rename("pre_layrnorm.{p}", "norm_pre.{p}"),  # as transformers spells it
        rename(_LAYER + "layer_norm1.{p}", "blocks.{i}.norm1.{p}"),
        Rule(tuple(f"{_LAYER}self_attn.{x}_proj.{{p}}" for x in "qkv"), ("blocks.{i}.attn.qkv.{p}",), "concatenate"),
        rename(_LAYER + "self_attn.out_proj.{p}", "blocks.{i}.attn.proj.{p}"),
        rename(_LAYER + "layer_norm2.{p}", "blocks.{i}.norm2.{p}"),
        *(rename(f"{_LAYER}mlp.fc{n}.{{p}}", f"blocks.{{i}}.mlp.fc{n}.{{p}}") for n in (1, 2)),
        rename("post_layernorm.{p}", "norm.{p}"),
    ),
    rest_is_same=False,
    extras={"embeddings.position_ids": "the numbers of the positions"},
)
