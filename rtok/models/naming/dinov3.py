"""DINOv3's own names, those of transformers (`DINOv3ViTModel`), and timm's variant without qkv biases."""

from __future__ import annotations

from rtok.models.naming.rules import Naming, Rule, rename

_BLOCK = "blocks.{i}."


def official(*, swiglu: bool = False) -> Naming:
    """Return the DINOv3 code base's names."""
    gate = zip(("w1", "w2", "w3"), ("fc1_g", "fc1_x", "fc2"), strict=True)
    rules = (
        rename("storage_tokens", "reg_token"),
        Rule((_BLOCK + "attn.qkv.bias",), (_BLOCK + "attn.q_bias", _BLOCK + "attn.v_bias"), "masked_key_bias"),
        rename(_BLOCK + "ls1.gamma", _BLOCK + "gamma_1"),
        rename(_BLOCK + "ls2.gamma", _BLOCK + "gamma_2"),
        *(rename(_BLOCK + f"mlp.{w}.{{p}}", _BLOCK + f"mlp.{fc}.{{p}}") for w, fc in gate if swiglu),
    )
    extras = {
        "mask_token": "used in DINOv3's training only",
        "rope_embed.periods": "the periods of the rotary embedding, which timm computes",
        "*.attn.qkv.bias_mask": "the constant that switches off the keys' bias",
        "local_cls_norm.*": "a norm for local crops, used in DINOv3's training only",
    }
    return Naming("DINOv3", rules, extras=extras)


def transformers(*, swiglu: bool = False) -> Naming:
    """Return the names that transformers writes to disk."""
    attention = "layer.{i}.attention."
    mlp = {"up_proj": "fc1", "down_proj": "fc2"}
    if swiglu:
        mlp = {"gate_proj": "fc1_g", "up_proj": "fc1_x", "down_proj": "fc2"}
    rules = (
        rename("embeddings.cls_token", "cls_token"),
        rename("embeddings.register_tokens", "reg_token"),
        rename("embeddings.patch_embeddings.{p}", "patch_embed.proj.{p}"),
        rename("layer.{i}.norm1.{p}", _BLOCK + "norm1.{p}"),
        Rule(tuple(attention + f"{x}_proj.weight" for x in "qkv"), (_BLOCK + "attn.qkv.weight",), "concatenate"),
        rename(attention + "q_proj.bias", _BLOCK + "attn.q_bias"),
        rename(attention + "v_proj.bias", _BLOCK + "attn.v_bias"),
        rename(attention + "o_proj.{p}", _BLOCK + "attn.proj.{p}"),
        rename("layer.{i}.layer_scale1.lambda1", _BLOCK + "gamma_1"),
        rename("layer.{i}.norm2.{p}", _BLOCK + "norm2.{p}"),
        *(rename(f"layer.{{i}}.mlp.{x}.{{p}}", _BLOCK + f"mlp.{fc}.{{p}}") for x, fc in mlp.items()),
        rename("layer.{i}.layer_scale2.lambda1", _BLOCK + "gamma_2"),
        rename("norm.{p}", "norm.{p}"),
    )
    extras = {"embeddings.mask_token": "used in DINOv3's training only"}
    return Naming("transformers", rules, rest_is_same=False, extras=extras)


# timm's default files leave out the biases of Meta's models, which are all zero.
_QKV = tuple(_BLOCK + f"attn.{key}" for key in ("qkv.weight", "q_bias", "v_bias"))
TIMM_WITHOUT_BIAS = Naming("timm (without qkv biases)", (Rule(_QKV[:1], _QKV, "zero_qkv_bias"),))
