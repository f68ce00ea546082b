"""Who is attacked: the plain backbone, the control with an untrained defense, and the backbone with a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rtok.config.defenses import Place
from rtok.defenses import Defense, load_defense
from rtok.defenses.base import same_twins

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone
    from rtok.models.defended import Features

Role = Literal["plain", "random", "robust", "surrogate"]


@dataclass(frozen=True, eq=False)
class Victim:
    """A model that attacks are tried on, or crafted on.

    Attributes:
        role: `plain` is the backbone alone, `robust` has a trained defense, `random` an untrained one (the control);
            `surrogate` is a model of the user's choice that attacks are crafted on.
        features: the backbone, with the defense inside where there is one.
        file: the file of a robust victim's defense, as the user named it.
        draw, twin: which of the control's draws this is, and of which untrained twins (from 1).
        head: which features the head on top was fitted on: `plain`, or `robust` for the victim's own; None without one.
    """

    role: Role
    features: Features
    defense: Defense | None = None
    file: str | None = None
    draw: int | None = None
    head: str | None = None
    twin: int | None = None

    @property
    def count(self) -> int | None:
        """The number of extra tokens, n."""
        return None if self.defense is None else self.defense.count

    def with_defense(self, defense: Defense) -> Victim:
        """Return the same victim with another defense."""
        return replace(self, defense=defense, features=defense.model(self.features.backbone))

    def identity(self) -> dict[str, Any]:
        """The columns that say which victim a row is about."""
        return {
            "victim": self.role,
            "defense": self.file,
            "kind": None if self.defense is None else self.defense.kind,
            "n": self.count,
            "draw": self.draw,
            "head_features": self.head,
        }


def open_defense(file: Place, backbone: Backbone, *, check_weights: bool = True) -> Defense:
    """Load a defense onto the backbone's device; one for another backbone, or other weights if checked, is refused."""
    defense = load_defense(file, backbone.spec.name)
    defense.check(backbone, Path(str(file)), weights=check_weights)
    return defense.to(backbone.mean.device)


def robust_victims(
    files: Sequence[Place], backbone: Backbone, heads: Sequence[str | None] = (None,), *, check_weights: bool = True
) -> list[Victim]:
    """Load each defense file, one victim per head."""
    victims = []
    for file in files:
        defense = open_defense(file, backbone, check_weights=check_weights)
        model = defense.model(backbone)
        victims += [Victim("robust", model, defense, str(file), head=head) for head in heads]
    return victims


def control_victims(
    robust: Sequence[Victim], draws: int, backbone: Backbone, seed: int, heads: Sequence[str | None] = (None,)
) -> list[Victim]:
    """Untrained twins of the robust victims, `draws` for all that have the same; each draw with every head."""
    twins = same_twins(victim.defense for victim in robust if victim.defense is not None)
    controls = []
    for twin, defense in enumerate(twins.values(), start=1):
        for draw in range(draws):
            untrained = defense.untrained(backbone, seed, "control", draw)
            model = untrained.model(backbone)
            controls += [Victim("random", model, untrained, draw=draw, head=head, twin=twin) for head in heads]
    return controls
