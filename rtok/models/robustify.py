"""Tokens inside a timm model: the same calls, the same head, a defended model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rtok.errors import UserError
from rtok.models.families.timm_any import why_no_tokens
from rtok.models.injection import append_tokens, embed, run_block
from rtok.models.registry import find
from rtok.release import describe, to_metadata
from rtok.tokens import RobustnessTokens


class RobustViT(nn.Module):
    """A timm ViT that always runs with its robustness tokens; made by `robustify`.

    It shares its weights with `model`, which is left as it is. Its state dict holds `model.*` and `rtokens`, and in
    its `_metadata` what the tokens were made for: saved with `torch.save`, it is a checkpoint that `rtok convert` and
    `rtok inspect` read. For safetensors, pass `metadata` to `save_file`.

    Attributes:
        model: the timm model.
        tokens: the tokens and what they were made for.
        rtokens: (1, n, D), a buffer: it moves with the module and gets no gradient.
    """

    rtokens: Tensor

    def __init__(self, model: Any, tokens: RobustnessTokens) -> None:
        super().__init__()
        self.model = model
        self.tokens = tokens
        self.register_buffer("rtokens", tokens.values.clone())
        self.train(model.training)
        self.register_state_dict_post_hook(_add_metadata)

    @property
    def metadata(self) -> dict[str, str]:
        """What the model is, as the metadata of a file."""
        return to_metadata(describe(self.tokens, "robustify"))

    @property
    def pretrained_cfg(self) -> Any:
        """timm's record of the weights, for `timm.data.resolve_model_data_config`."""
        return self.model.pretrained_cfg

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features of timm's own `forward_features` (B, N, D), of images normalised as it takes them."""
        sequence, rope = embed(self.model, x)
        length = sequence.shape[1]
        sequence, rope = append_tokens(sequence, rope, self.rtokens)
        for block in self.model.blocks:
            sequence = run_block(block, sequence, rope)
        return self.model.norm(sequence[:, :length])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the features and classify them, as the model does."""
        return self.model.forward_head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the model returns: logits, or an embedding."""
        return self.forward_head(self.forward_features(x))


def robustify(model: nn.Module, tokens: RobustnessTokens) -> RobustViT:
    """Put tokens into any ViT of timm; the result is called like the model.

    Args:
        model: a timm `VisionTransformer` or `Eva`, with or without a classifier. It is not changed.
        tokens: for this architecture.

    Raises:
        UserError: tokens cannot join this model, or were made for another.
    """
    from rtok.models.backbone import Backbone

    if isinstance(model, Backbone):
        raise UserError(
            "robustify takes a model of timm. A Backbone takes tokens as an argument: "
            "backbone(images, tokens.values)."
        )
    reason = why_no_tokens(model)
    if reason:
        raise UserError(f"Tokens cannot join this model: {reason}. robustify takes plain ViTs of timm.")
    _check(model, tokens)
    return RobustViT(model, tokens)


def _check(vit: Any, tokens: RobustnessTokens) -> None:
    """Refuse tokens for another architecture: by width, and by name where both sides have one."""
    architecture = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")
    made_for = find(tokens.backbone).timm_name.partition(".")[0] if tokens.backbone else None
    if tokens.dim != vit.embed_dim or (architecture and made_for and architecture != made_for):
        raise UserError(
            f"These {tokens.count} tokens were made for {tokens.backbone or 'an unnamed backbone'} (width "
            f"{tokens.dim}), not for {architecture or 'a model'} of width {vit.embed_dim}. Give that model, or "
            "tokens trained for this one."
        )


def _add_metadata(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    assert isinstance(module, RobustViT)
    local_metadata.update(module.metadata)
