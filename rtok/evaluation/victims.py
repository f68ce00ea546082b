"""Who is attacked: the plain backbone, the control with untrained tokens, and the backbone with trained tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rtok.seeding import image_seed
from rtok.tokens import RobustnessTokens

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone

VictimKind = Literal["plain", "random", "robust"]
DEFAULT_INIT_STD = 0.01  # the paper's initialisation, for token files that do not say theirs


@dataclass(frozen=True, eq=False)
class Victim:
    """A model that attacks are tried on.

    Attributes:
        kind: `plain` f(x), `robust` f(x, r) with trained tokens, `random` f(x, r0) with untrained ones (the control).
        tokens: (1, n, D) on the compute device; None for `plain`.
        file: the token file of a robust victim, as the user named it.
        draw: which of the control's draws this is.
        init_std: the standard deviation that the tokens started from; an informed attacker draws with it.
        head: which features the head on top was fitted on (`plain` or `robust`); None without a head.
    """

    kind: VictimKind
    tokens: Tensor | None = None
    file: str | None = None
    draw: int | None = None
    init_std: float = DEFAULT_INIT_STD
    head: str | None = None

    @property
    def count(self) -> int | None:
        """The number of extra tokens, n."""
        return None if self.tokens is None else self.tokens.shape[1]

    def identity(self) -> dict[str, Any]:
        """The columns that say which victim a row is about."""
        return {
            "victim": self.kind,
            "defense": self.file,
            "kind": None if self.tokens is None else "tokens",
            "n": self.count,
            "draw": self.draw,
            "head_features": self.head,
        }


def random_tokens(count: int, dim: int, std: float, seed: int, *parts: object) -> Tensor:
    """Untrained tokens (1, count, dim): std * N(0, 1), from a CPU generator of their own."""
    generator = torch.Generator().manual_seed(image_seed(seed, "tokens", count, *parts))
    return std * torch.randn(1, count, dim, generator=generator)


def robust_victims(
    files: Sequence[Path], backbone: Backbone, heads: Sequence[str | None] = (None,)
) -> list[Victim]:
    """Load each token file, one victim a head; files of another backbone or width are refused."""
    device = backbone.mean.device
    victims = []
    for file in files:
        tokens = RobustnessTokens.load(file)
        tokens.check(backbone, file)
        std = (
            tokens.config.get("tokens", {}).get("init_std", DEFAULT_INIT_STD)
            if tokens.config
            else DEFAULT_INIT_STD
        )
        values = tokens.values.to(device)
        victims += [Victim("robust", values, str(file), init_std=float(std), head=head) for head in heads]
    return victims


def control_victims(
    robust: Sequence[Victim], draws: int, dim: int, seed: int, device: torch.device, head: str | None = None
) -> list[Victim]:
    """Untrained tokens of every count (and start) that occurs among the robust victims, `draws` of each."""
    kinds = sorted({(victim.count or 0, victim.init_std) for victim in robust})
    return [
        Victim("random", tokens.to(device), draw=draw, init_std=std, head=head)
        for count, std in kinds
        for draw in range(draws)
        for tokens in [random_tokens(count, dim, std, seed, "control", draw)]
    ]
