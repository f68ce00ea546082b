"""Deep tokens: n fresh tokens enter every block, and leave after it (after deep prompt tuning, Jia et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint
from rtok.defenses.base import new_for
from rtok.defenses.reading import read_parameter
from rtok.defenses.tokens import ExtraTokens
from rtok.errors import UserError
from rtok.models.entry import TokensInEveryBlock
from rtok.release import DEFENSE_FORMAT, check_format, made_with, parse_made_for
from rtok.seeding import image_seed

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone


@dataclass(frozen=True, eq=False, repr=False)
class DeepTokens(ExtraTokens):
    """n tokens of their own for every block (L, n, D), without a position.

    Attributes:
        init_std: they started as this times N(0, 1).
    """

    init_std: float

    kind: ClassVar[str] = "deep-tokens"
    stem: ClassVar[str] = "deep-tokens"
    noun: ClassVar[str] = "deep tokens"
    key: ClassVar[str] = "deep_tokens"

    @classmethod
    def create(cls, settings: Any, backbone: Backbone, seed: int) -> DeepTokens:
        """Draw the tokens that a training starts with, on the CPU."""
        made_for = new_for(backbone)
        values = _draw((backbone.depth, settings.count, backbone.dim), settings.init_std, seed)
        return cls(values, settings.init_std, **made_for)

    @classmethod
    def parse(cls, content: Checkpoint, path: Path) -> DeepTokens:
        """Take the tokens out of a checkpoint that was read; `path` is for the message of the UserError."""
        about = made_with(content.metadata)
        check_format(about, path, DEFENSE_FORMAT)
        values = read_parameter(content, path, cls.key, noun=cls.noun, shape=("blocks", "count", "width"))
        try:
            init_std = float(about["init_std"])
        except (KeyError, ValueError) as error:
            raise UserError(f"'{path}' has damaged metadata: its init_std. Copy it again.") from error
        return cls(values, init_std, **parse_made_for(about, path))

    def entry(self) -> TokensInEveryBlock:
        """Return the tokens as they join each block."""
        return TokensInEveryBlock(self.values)

    def untrained(self, backbone: Backbone, seed: int, *draw: object) -> DeepTokens:
        """Draw as many untrained tokens, on the same device."""
        drawn = _draw(tuple(self.values.shape), self.init_std, seed, *draw)
        return replace(self, values=drawn.to(self.values.device))

    def settings(self) -> dict[str, Any]:
        """Return the kind, the count and the standard deviation of the start."""
        return {"kind": self.kind, "count": self.count, "init_std": self.init_std}

    @property
    def metadata(self) -> dict[str, str]:
        """What the tokens were made for, as the metadata of a file."""
        blocks, count, dim = map(str, self.values.shape)
        return {**super().metadata, "blocks": blocks, "n": count, "dim": dim, "init_std": repr(self.init_std)}


def _draw(shape: tuple[int, ...], std: float, seed: int, *draw: object) -> Tensor:
    """Draw std * N(0, 1): a function of seed, shape and what names the draw."""
    generator = torch.Generator().manual_seed(image_seed(seed, "deep-tokens", *shape, *draw))
    return std * torch.randn(shape, generator=generator)
