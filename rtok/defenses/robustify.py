"""A defense inside a timm model: the same calls, the same head, a defended model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rtok.defenses.base import Defense, as_attribute
from rtok.errors import UserError
from rtok.models.backbone import Backbone
from rtok.models.entry import Entry, bound, embed, run_blocks
from rtok.models.families.timm_any import why_no_tokens
from rtok.models.registry import find
from rtok.release import describe, to_metadata


class RobustViT(nn.Module):
    """A timm ViT that always runs with its defense; made by `robustify`.

    It shares its weights with `model`, which is left as it is. Its state dict holds `model.*` and the defense's
    parameters (tokens: `rtokens`), and in its `_metadata` what they were made for: saved with `torch.save`, it is a
    checkpoint that `rtok convert` and `rtok inspect` read. For safetensors, pass `metadata` to `save_file`.

    Attributes:
        model: the timm model.
        defense: the defense and what it was made for; its parameters are part of this module. They are buffers, which
            get no gradient, or parameters where they are trainable.
    """

    def __init__(self, model: Any, defense: Defense, *, trainable: bool = False) -> None:
        super().__init__()
        self.model = model
        self.defense = defense
        for name, values in defense.parameters().items():
            if trainable:
                self.register_parameter(as_attribute(name), nn.Parameter(values.detach().clone()))
            else:
                self.register_buffer(as_attribute(name), values.detach().clone())
        self.train(model.training)
        self.register_state_dict_post_hook(_add_metadata)

    @property
    def metadata(self) -> dict[str, str]:
        """What the model is, as the metadata of a file."""
        return to_metadata(describe(self.defense.metadata, "robustify"))

    @property
    def pretrained_cfg(self) -> Any:
        """timm's record of the weights, for `timm.data.resolve_model_data_config`."""
        return self.model.pretrained_cfg

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features of timm's own `forward_features` (B, N, D), of images normalized as it takes them."""
        return _features(x, *self._bound())

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the features and classify them, as the model does."""
        return self._bound()[0].forward_head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the model returns: logits, or an embedding."""
        vit, entry = self._bound()
        return vit.forward_head(_features(x, vit, entry))

    def _bound(self) -> tuple[Any, Entry]:
        """The model that runs, and what enters it, with the parameters as they are now."""
        values = {name: getattr(self, as_attribute(name)) for name in self.defense.parameters()}
        return bound(self.defense.replaced(values).entry(), self.model)


def robustify(model: nn.Module, defense: Defense, *, trainable: bool = False) -> RobustViT:
    """Put a defense of any kind into any ViT of timm; the result is called like the model.

    Args:
        model: a timm `VisionTransformer` or `Eva`, with or without a classifier. It is not changed.
        defense: for this architecture.
        trainable: whether the defense's parameters are `nn.Parameter`s, to be trained on; else they are buffers.

    Raises:
        UserError: the defense cannot enter this model, or was made for another.
    """
    if isinstance(model, Backbone):
        raise UserError(
            "robustify takes a model of timm. A Backbone takes a defense the other way round: "
            "defense.model(backbone)(images)."
        )
    reason = why_no_tokens(model)
    if reason:
        raise UserError(f"Tokens cannot join this model: {reason}. robustify takes plain ViTs of timm.")
    _check(model, defense)
    return RobustViT(model, defense, trainable=trainable)


def _features(x: Tensor, vit: Any, entry: Entry) -> Tensor:
    sequence, rope = embed(vit, x)
    (after,) = run_blocks(vit, sequence, rope, entry, [len(vit.blocks) - 1])
    features: Tensor = vit.norm(after[:, : sequence.shape[1]])
    return features


def _check(vit: Any, defense: Defense) -> None:
    """Refuse a defense for another architecture: by width, and by name where both sides have one."""
    architecture = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")
    made_for = find(defense.backbone).timm_name.partition(".")[0] if defense.backbone else None
    if defense.dim != vit.embed_dim or (architecture and made_for and architecture != made_for):
        what = defense.noun if defense.count is None else f"{defense.count} {defense.noun}"
        raise UserError(
            f"These {what} were made for {defense.backbone or 'an unnamed backbone'} (width "
            f"{defense.dim}), not for {architecture or 'a model'} of width {vit.embed_dim}. Give that model, or "
            f"{defense.noun} trained for this one."
        )


def _add_metadata(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    assert isinstance(module, RobustViT)
    local_metadata.update(module.metadata)
