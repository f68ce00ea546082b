"""The frozen backbone: images in [0, 1] in, features out, and one more argument for what enters its blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rtok.models.compiled import Compiled, Mode
from rtok.models.entry import AppendedTokens, Entry, as_entry, bound, embed, run_blocks
from rtok.models.frozen import freeze
from rtok.models.half import asks_for_gradient, with_half_products
from rtok.models.images import check_range, check_shape
from rtok.models.spec import ModelSpec

# What `.to(dtype)` must leave in float32: bf16 would move a mean by 0.1 %, a rotary angle by more.
_ALWAYS_FLOAT32 = ("mean", "std", "rope", "positions")


class Backbone(nn.Module):
    """A plain ViT of timm, frozen, whose features can be had with and without a defense.

    There is nothing to switch: `backbone(images)` is timm's own `forward_features` (for `kind == "embedding"` its
    `forward`) through frozen layers (`rtok.models.frozen`), and `backbone(images, entry)` is the same with something
    entering the blocks. No weight ever gets a gradient. `.to(torch.bfloat16)` runs the transformer in bfloat16; pixels
    are normalized and features returned in float32.

    Attributes:
        spec: what is known of the model; `dim`: token width D; `kind`: `tokens` or `embedding`.
        image_size, grid: (height, width) in pixels and in patches; `patch_size` in pixels; `depth` in blocks.
        num_registers: the model's own extra tokens, which the features leave out.
        has_class_token: else its place in the features has what the model pools from the patches.
        mean, std: (1, 3, 1, 1), float32.
        positions: the position embeddings at their trained size (1, P', D), float32; None where they are rotary.
        origin: the `weights` and `normalization` that `load_backbone` was given.
        activation_checkpointing: keep one activation per block for the backward pass and compute the others again:
            a third more work, and the same numbers, in the memory of one block.
        half_gradients: passes that the gradient of their images is taken through, which are the steps of an attack,
            have their matrix products in bfloat16; all others are exact (`rtok.models.half`).
    """

    activation_checkpointing = False
    half_gradients = False
    origin: Mapping[str, object] = MappingProxyType({})
    _compiled: Compiled | None = None
    _seen = False  # whether images were found to lie in [0, 1]
    takes_entries = True  # whether a defense can enter the blocks
    _fingerprint: tuple[list[tuple[int, int]], str] | None = None

    mean: Tensor
    std: Tensor
    rope: Tensor | None
    positions: Tensor | None

    def __init__(
        self, vit: Any, spec: ModelSpec, *, mean: Sequence[float], std: Sequence[float], positions: Tensor | None = None
    ) -> None:
        super().__init__()
        self.vit = vit
        self.spec = spec
        self.kind = spec.kind
        self.dim: int = vit.embed_dim
        self.depth = len(vit.blocks)
        self.patch_size = spec.patch_size
        self.image_size: tuple[int, int] = tuple(vit.patch_embed.img_size)
        self.grid: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self.has_class_token = vit.cls_token is not None
        self.num_registers: int = vit.num_prefix_tokens - self.has_class_token
        self._halves: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("rope", self._rotary_table(), persistent=False)
        if positions is None and getattr(vit, "pos_embed", None) is not None:
            positions = vit.pos_embed.detach().clone()
        self.register_buffer("positions", positions, persistent=False)
        freeze(vit)
        self.requires_grad_(False)
        self.eval()

    def compile_forward(self, mode: Mode) -> None:
        """Have `forward` compiled by `torch.compile` in this mode, for few batch sizes (`rtok.models.compiled`)."""
        self._compiled = Compiled(self._forward, mode)

    def forward(self, images: Tensor, entry: Entry | Tensor | None = None) -> Tensor:
        """Return features of images (B, 3, H, W) in [0, 1].

        Args:
            entry: what enters the blocks; tokens (1, n, D) or (B, n, D) are short for `AppendedTokens(tokens)`. What
                comes out in their places is dropped.

        Returns:
            The final-norm class and patch tokens (B, 1+P, D), or the embedding (B, E); float32.

        Raises:
            UserError: images of another shape or type, or outside of [0, 1]; the values are looked at until one batch
                was right, since every look waits for the device.
        """
        self._check(images)
        entry = as_entry(entry)
        one_each = isinstance(entry, AppendedTokens) and len(entry.values) > 1  # a batch of these cannot be filled up
        if self._compiled is None or one_each:
            return self._forward(images, entry)
        if self.half_gradients:
            self._half(self.vit)  # made here, since what makes modules compiles badly
        return self._compiled(images, entry)

    def _forward(self, images: Tensor, entry: Entry) -> Tensor:
        vit, (sequence,) = self._sequences(images, [self.depth - 1], entry)
        if self.kind == "embedding":
            # only the class token is pooled, so only it is normalized
            return vit.forward_head(vit.norm(sequence[:, :1])).float()
        return self._features(vit, sequence)

    def intermediate(self, images: Tensor, blocks: Sequence[int], entry: Entry | Tensor | None = None) -> list[Tensor]:
        """Return the final-norm features (B, 1+P, D) after each of these blocks (from 0), in their order."""
        self._check(images)
        vit, sequences = self._sequences(images, blocks, as_entry(entry))
        return [self._features(vit, sequence) for sequence in sequences]

    @property
    def why_closed(self) -> str:
        """Say that nothing can enter the blocks, for the message of a UserError."""
        return (
            f"'{self.spec.name}' is a module whose blocks are unknown, so tokens cannot join its sequence: use a "
            "backbone that `rtok models` lists, or a defense of your own that wraps the module."
        )

    @property
    def backbone(self) -> Backbone:
        """Itself: a plain model is its own backbone."""
        return self

    def block_at(self, share: float) -> int:
        """Return the block (from 0) that ends at this share of the depth, in (0, 1]: at 0.5 the middle one."""
        return max(0, round(share * self.depth) - 1)

    def largest_activations(self, images: Tensor, entry: Entry | Tensor | None = None) -> Tensor:
        """Return the largest absolute activation of every position after every block, (B, depth, N), float32.

        The activations are those that pass from block to block, before the final norm, where a ViT keeps few but
        massive ones (Sun et al., 2024). Positions: class token, the model's registers, patches, and last what the entry
        added.
        """
        self._check(images)
        _, sequences = self._sequences(images, range(self.depth), as_entry(entry))
        return torch.stack([sequence.abs().amax(-1) for sequence in sequences], dim=1).float()

    def weights(self) -> dict[str, Tensor]:
        """Return all weights under timm's names, positions at their trained size; they are the backbone's own."""
        positions = {} if self.positions is None else {"pos_embed": self.positions}
        return {**self.vit.state_dict(), **positions}

    def fingerprint(self) -> str:
        """Return 16 hex digits that tell these weights from others, at any image size, dtype or device."""
        tensors = {**self.vit.state_dict(), "mean": self.mean, "std": self.std}
        tensors.pop("pos_embed", None)  # resampled for the image size
        versions = [(tensor.data_ptr(), tensor._version) for tensor in tensors.values()]
        if self._fingerprint and self._fingerprint[0] == versions:  # hashing a gigabyte takes seconds
            return self._fingerprint[1]
        digest = hashlib.sha256()
        for name in sorted(tensors):
            digest.update(name.encode())
            # bfloat16 holds what a float32 and a bfloat16 copy of the same weights have in common
            digest.update(tensors[name].detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
        self._fingerprint = (versions, digest.hexdigest()[:16])
        return self._fingerprint[1]

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode, whatever is asked: dropout has no place in a frozen model."""
        return super().train(False)

    def _check(self, images: Tensor) -> None:
        check_shape(images, self.image_size)
        # Only a plain tensor has values: one that is traced or on the meta device has none.
        if not torch.compiler.is_compiling() and not self._seen and type(images) is Tensor and not images.is_meta:
            check_range(images)
            self._seen = True

    def _sequences(self, images: Tensor, blocks: Sequence[int], entry: Entry) -> tuple[Any, list[Tensor]]:
        """Return the model that ran, and the sequence (B, 1 + registers + P [+ n], D) after each block asked for."""
        vit, entry = bound(entry, self.vit)
        if self.half_gradients and asks_for_gradient(images):
            vit = self._half(vit)
        normalized = (images - self.mean) / self.std
        sequence, _ = embed(vit, normalized.to(vit.patch_embed.proj.weight.dtype))
        # The rotary table is not the one of `embed`, which may have been rounded with the weights.
        run = partial(self._run_checkpointed, entry) if self.activation_checkpointing else None
        return vit, run_blocks(vit, sequence, self.rope, entry, blocks, run)

    def _half(self, vit: Any) -> Any:
        if vit not in self._halves:
            self._halves[vit] = with_half_products(vit, self.mean.device)
        return self._halves[vit]

    def _run_checkpointed(
        self, entry: Entry, index: int, block: nn.Module, sequence: Tensor, rope: Tensor | None
    ) -> Tensor:
        if torch.is_grad_enabled() and sequence.requires_grad:
            # no block draws random numbers, so there is no generator's state to restore
            checkpointed: Tensor = checkpoint(
                entry.run_block, index, block, sequence, rope, use_reentrant=False, preserve_rng_state=False
            )
            return checkpointed
        return entry.run_block(index, block, sequence, rope)

    def _features(self, vit: Any, sequence: Tensor) -> Tensor:
        """Keep the class token and the patches, then normalize, which goes row by row.

        Without a class token, its place has what the model itself pools from the patches.
        """
        patches = self.has_class_token + self.num_registers
        end = patches + self.grid[0] * self.grid[1]
        if not self.has_class_token:
            normalized = vit.norm(sequence[:, patches:end])
            return torch.cat([vit.pool(normalized)[:, None], normalized], dim=1).float()
        if self.num_registers:
            kept = torch.cat([sequence[:, :1], sequence[:, patches:end]], dim=1)
        else:
            kept = sequence[:, :end]
        return vit.norm(kept).float()

    def _rotary_table(self) -> Tensor | None:
        """Return the (P, 2 * head width) sines and cosines of a model with rotary positions, else None."""
        if getattr(self.vit, "rope", None) is None:
            return None
        rope = embed(self.vit, torch.zeros(1, 3, *self.image_size))[1]
        return None if rope is None else rope.detach().clone()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        kept = {name: getattr(self, name) for name in _ALWAYS_FLOAT32}
        super()._apply(fn, recurse)
        self._halves.clear()
        for name, before in kept.items():
            if before is not None:
                setattr(self, name, before.to(getattr(self, name).device))
        return self
