"""Robustness tokens: drawn, saved, and read again, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint, beside_model, read_checkpoint
from rtok.defenses.base import Defense, new_for
from rtok.defenses.reading import read_parameter
from rtok.models.entry import AppendedTokens
from rtok.release import TOKENS_FORMAT, TOKENS_KEY, check_format, made_with, parse_made_for
from rtok.seeding import image_seed
from rtok.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self

    from rtok.models.backbone import Backbone

DEFAULT_INIT_STD = 0.01  # the paper's, for files that do not say theirs


@dataclass(frozen=True, eq=False, repr=False)
class ExtraTokens(Defense):
    """Extra tokens in one tensor: what the paper's have in common with those that enter elsewhere.

    Attributes:
        values: (blocks that they enter, n, D) float32.
        key: the tensor's name in a file.
    """

    values: Tensor

    key: ClassVar[str]

    @property
    def count(self) -> int:
        """The number of tokens that a sequence gets, n."""
        return self.values.shape[1]

    @property
    def dim(self) -> int:
        """The width of a token, D."""
        return self.values.shape[2]

    def parameters(self) -> dict[str, Tensor]:
        """Return the one tensor."""
        return {self.key: self.values}

    def replaced(self, parameters: Mapping[str, Tensor]) -> Self:
        """Return tokens of other values, made for the same."""
        return replace(self, values=parameters[self.key])


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessTokens(ExtraTokens):
    """The paper's defense: n extra input tokens (1, n, D), which enter before block 0 without a position."""

    kind: ClassVar[str] = "tokens"
    stem: ClassVar[str] = "rtokens"
    noun: ClassVar[str] = "tokens"
    key: ClassVar[str] = TOKENS_KEY

    @property
    def init_std(self) -> float:
        """The standard deviation that they started from, as far as their training says."""
        trained = self.config.get("defense", self.config.get("tokens"))  # rtok 0.1 called the section `tokens`
        return float(trained.get("init_std", DEFAULT_INIT_STD)) if isinstance(trained, Mapping) else DEFAULT_INIT_STD

    @classmethod
    def draw(
        cls, count: int, dim: int, *draw: object, std: float = DEFAULT_INIT_STD, seed: int = 0, **made_for: Any
    ) -> RobustnessTokens:
        """Draw untrained tokens, std * N(0, 1): a function of seed, count, dim and what names the draw."""
        generator = torch.Generator().manual_seed(image_seed(seed, "tokens", count, *draw))
        values = std * torch.randn(1, count, dim, generator=generator)
        return cls(values, **{"version": __version__, **made_for})

    @classmethod
    def create(cls, settings: Any, backbone: Backbone, seed: int) -> RobustnessTokens:
        """Draw the tokens that a training starts with, on the CPU."""
        return cls.draw(settings.count, backbone.dim, std=settings.init_std, seed=seed, **new_for(backbone))

    def untrained(self, backbone: Backbone, seed: int, *draw: object) -> RobustnessTokens:
        """Draw as many untrained tokens, on the same device."""
        drawn = self.draw(self.count, self.dim, *draw, std=self.init_std, seed=seed, config=self.config)
        return drawn.to(self.values.device)

    def settings(self) -> dict[str, Any]:
        """Return the kind, the count and the standard deviation of the start."""
        return {"kind": self.kind, "count": self.count, "init_std": self.init_std}

    def entry(self) -> AppendedTokens:
        """Return the tokens as they join the sequence."""
        return AppendedTokens(self.values)

    @property
    def metadata(self) -> dict[str, str]:
        """What the tokens were made for, as the metadata of a file."""
        return {**super().metadata, "format": TOKENS_FORMAT, "n": str(self.count), "dim": str(self.dim)}

    @classmethod
    def load(cls, path: Path) -> RobustnessTokens:
        """Read a token file of ours, the original's `{"rtokens": tensor}`, or its whole-model checkpoint.

        In the latter the tokens lie beside the model's weights, possibly under `state_dict` and after `module.`.

        Raises:
            UserError: the file is unreadable, holds no tokens, or tokens that are not finite numbers (1, n, D).
        """
        return cls.parse(read_checkpoint(Path(path)), Path(path))

    @classmethod
    def adopt(cls, content: Checkpoint, path: Path, model: str | None) -> RobustnessTokens | None:
        """Take the tokens out of a file of rtok 0.1 or of the original code."""
        return cls.parse(content, path) if TOKENS_KEY in beside_model(content) else None

    @classmethod
    def parse(cls, content: Checkpoint, path: Path) -> RobustnessTokens:
        """Take the tokens out of a checkpoint that was read; `path` is for the message of the UserError."""
        hint = "Give a token file of rtok, or the original's rtokens.pt or last.ckpt."
        values = read_parameter(
            content, path, TOKENS_KEY, noun="robustness tokens", shape=(1, "count", "width"), hint=hint
        )
        about = made_with(content.metadata)  # a file that others wrote says nothing of ours
        check_format(about, path, TOKENS_FORMAT)
        return cls(values, **parse_made_for(about, path))
