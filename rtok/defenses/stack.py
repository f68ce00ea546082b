"""A stack: several defenses on each other, as one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint, beside_model
from rtok.config.defenses import STACK
from rtok.defenses.base import Defense
from rtok.errors import UserError
from rtok.models.stacked import Stacked
from rtok.release import DEFENSE_FORMAT, check_format, made_with, parse_made_for
from rtok.version import __version__

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone


@dataclass(frozen=True, eq=False, repr=False)
class Stack(Defense):
    """Defenses that enter one model, the first innermost: each finds a model with those before it inside.

    Changes of the weights apply in this order, so whole weights come first. What is known of the training is the
    members' own.

    Attributes:
        members: two or more.
    """

    members: tuple[Defense, ...]

    kind: ClassVar[str] = STACK
    stem: ClassVar[str] = STACK
    noun: ClassVar[str] = "stacked defenses"

    @classmethod
    def of(cls, *members: Defense) -> Stack:
        """Stack defenses, the innermost first.

        Raises:
            UserError: there are fewer than two.
        """
        if len(members) < 2:
            raise UserError(f"A stack has two defenses or more, not {len(members)}.")
        names = dict.fromkeys(member.backbone for member in members if member.backbone)
        seen = frozenset[str]().union(*(member.seen for member in members))
        first = members[0]
        size, made_for = first.image_size, next(iter(names), None)
        return cls(
            members, backbone=made_for, image_size=size, version=__version__, fingerprint=first.fingerprint, seen=seen
        )

    @classmethod
    def create(cls, settings: Any, backbone: Backbone, seed: int) -> Stack:
        """Stacks are made of defenses that there are, and not trained."""
        raise UserError("A stack is made of trained defenses: train its members.")

    @classmethod
    def parse(cls, content: Checkpoint, path: Path) -> Stack:
        """Take the stack out of a checkpoint that was read; `path` is for the message of the UserError."""
        from rtok.defenses.files import parse_defense  # which reads members of every kind

        about = made_with(content.metadata)
        check_format(about, path, DEFENSE_FORMAT)
        try:
            members = json.loads(about["members"])
            if not (isinstance(members, list) and all(_says(member) for member in members)):
                raise ValueError("not what members say of themselves")
        except (KeyError, ValueError, RecursionError) as error:
            raise UserError(f"'{path}' has damaged metadata: the members of its stack. Copy it again.") from error
        tensors, parts = beside_model(content), list[Defense]()
        for number, member in enumerate(members):
            own = {name.removeprefix(f"{number}/"): t for name, t in tensors.items() if name.startswith(f"{number}/")}
            parts.append(parse_defense(Checkpoint(own, member), path))
        return replace(cls.of(*parts), **parse_made_for(about, path))

    @property
    def has_control(self) -> bool:  # type: ignore[override]
        """Whether an untrained twin differs from the plain model: if that of a member does."""
        return any(member.has_control for member in self.members)

    @property
    def private(self) -> bool:  # type: ignore[override]
        """Whether a member is."""
        return any(member.private for member in self.members)

    @property
    def fit_lr(self) -> float:  # type: ignore[override]
        """The smallest of the members', which suits all."""
        return min(member.fit_lr for member in self.members)

    @property
    def count(self) -> int | None:
        """The number of extra tokens of all members."""
        counts = [member.count for member in self.members if member.count is not None]
        return sum(counts) if counts else None

    @property
    def dim(self) -> int | None:
        """The token width D that the members agree on."""
        return next((member.dim for member in self.members if member.dim is not None), None)

    def check(self, backbone: Backbone, file: Path | None = None, *, weights: bool = True) -> None:
        """Refuse members that were made for another backbone, and a first one that was for other weights.

        The others may have been trained on the model with those before them.
        """
        for number, member in enumerate(self.members):
            member.check(backbone, file, weights=weights and number == 0)

    def parameters(self) -> dict[str, Tensor]:
        """Return the members' parameters by `number/name`, from 0."""
        numbered = enumerate(self.members)
        return {f"{number}/{name}": t for number, member in numbered for name, t in member.parameters().items()}

    def replaced(self, parameters: Mapping[str, Tensor]) -> Stack:
        """Return a stack of the same form with other values."""
        members = [
            member.replaced({name: parameters[f"{number}/{name}"] for name in member.parameters()})
            for number, member in enumerate(self.members)
        ]
        return replace(self, members=tuple(members))

    def entry(self) -> Stacked:
        """Return the members' entries, on each other."""
        return Stacked([member.entry() for member in self.members])

    def merged_into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Merge one member after the other; None where one needs more than weights."""
        found: dict[str, Tensor] | None = dict(weights)
        for member in self.members:
            found = None if found is None else member.merged_into(found)
        return found

    def untrained(self, backbone: Backbone, seed: int, *draw: object) -> Stack:
        """Return the members' twins, each of a draw of its own."""
        twins = (m.untrained(backbone, seed, *draw, *([k] if k else [])) for k, m in enumerate(self.members))
        return replace(self, members=tuple(twins))

    def settings(self) -> dict[str, Any]:
        """Return the kind, and those of the members."""
        return {"kind": self.kind, "members": tuple(tuple(member.settings().items()) for member in self.members)}

    @property
    def metadata(self) -> dict[str, str]:
        """What the members say of themselves, as the metadata of a file."""
        return {**super().metadata, "members": json.dumps([member.metadata for member in self.members])}

    def to(self, device: torch.device) -> Stack:
        """Return the stack on another device."""
        return replace(self, members=tuple(member.to(device) for member in self.members))


def _says(member: Any) -> bool:
    """Whether it is the metadata of a defense, as one member's file would have it."""
    return isinstance(member, dict) and all(isinstance(text, str) for text in member.values()) and "kind" in member
