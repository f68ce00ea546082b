"""What a defense is: parameters beside a frozen backbone, and one way to enter it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint, to_safetensors
from rtok.errors import UserError
from rtok.files import write_atomic
from rtok.models.defended import Defended, Features
from rtok.models.entry import Entry
from rtok.release import DEFENSE_FORMAT
from rtok.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self

    from rtok.models.backbone import Backbone

# What of a training's config is a seed, does not change what is trained, or is in the form of the defense.
_NOT_METHOD = ("seed", "token_seed", "token_count", "defense", "tokens", "out", "tracking")


# A file names at most so many images (1.1 MB): the smallest digests, which are a random sample.
MOST_SEEN = 2**16


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Defense(ABC):
    """Parameters that are added to a frozen backbone; immutable, like everything made from it.

    Attributes:
        backbone: the model name it was trained for; None when the file does not say.
        image_size: (height, width) in pixels of its training; None when the file does not say.
        config: the resolved configuration of its training.
        version: the version of rtok that made it.
        fingerprint: that of the weights it was trained on (`Backbone.fingerprint`), when the file says.
        seen: digests of the images that its training saw, or of a sample of them; empty when the file does not say.

    A subclass says what it is in `kind` (the name in configs and rows), `stem` (how its files' names begin) and `noun`
    (the word for messages), and is registered with `rtok.register_defense`. It enters the blocks of a backbone
    (`entry`), or wraps the backbone as a whole (`model`), whatever that is.
    """

    kind: ClassVar[str]
    stem: ClassVar[str] = "defense"
    noun: ClassVar[str] = "defense"
    has_control: ClassVar[bool] = True  # False where an untrained twin is the plain model, which then is the control
    private: ClassVar[bool] = True  # whether it is worth less once an attacker has it: what publishing gives away
    replaces_backbone: ClassVar[bool] = False  # True where nothing of the backbone's own weights is left
    fit_lr: ClassVar[float] = 1e-2  # of Adam, where an untrained defense is fitted to the answers of another

    backbone: str | None = None
    image_size: tuple[int, int] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    fingerprint: str | None = None
    seen: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Say what it is without its values, which are a secret."""
        return f"{type(self).__name__}(count={self.count}, dim={self.dim}, backbone={self.backbone!r})"

    @classmethod
    @abstractmethod
    def create(cls, settings: Any, backbone: Backbone, seed: int) -> Self:
        """Return an untrained defense for a backbone, as `rtok train` starts with it.

        Args:
            settings: the config section that the kind is registered with.
        """

    @classmethod
    @abstractmethod
    def parse(cls, content: Checkpoint, path: Path) -> Self:
        """Take the defense out of a checkpoint that was read; `path` is for the message of the UserError."""

    @classmethod
    def adopt(cls, content: Checkpoint, path: Path, model: str | None) -> Self | None:
        """Take the defense out of a file that does not say what it is, or return None: it holds none of this kind.

        Args:
            model: the backbone that it is for, where that is known.

        Raises:
            UserError: it holds one that is damaged, or for another backbone.
        """
        return None

    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """Return all that is trained and saved, by name."""

    @abstractmethod
    def replaced(self, parameters: Mapping[str, Tensor]) -> Self:
        """Return the same defense with other values of its parameters."""

    def entry(self) -> Entry:
        """Return how it enters the blocks of a backbone; the parameters stay in the graph.

        Raises:
            UserError: it does not.
        """
        raise UserError(f"A defense of the kind '{self.kind}' does not enter the blocks of a model.")

    @abstractmethod
    def untrained(self, backbone: Backbone, seed: int, *draw: object) -> Self:
        """Return an untrained twin for the backbone: a function of the seed, what names the draw, and `twin_key`."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the config section that trains another of the same form, without seeds; plain, hashable values."""

    @property
    def twin_key(self) -> tuple[Any, ...]:
        """What untrained twins depend on beside the draw: defenses with equal keys share their controls."""
        return tuple(self.settings().values())

    @property
    def method(self) -> str | None:
        """What trained it, but for its seeds: equal for seeds of one training; None if the file does not say."""
        if not self.config:
            return None
        trained = {key: value for key, value in self.config.items() if key not in _NOT_METHOD}
        known = {"form": self.settings(), "fingerprint": self.fingerprint, "trained": trained}
        return json.dumps(known, sort_keys=True, default=str)

    @property
    def training_seed(self) -> tuple[Any, Any]:
        """The seed of its training's data and noise, and that of its start."""
        return self.config.get("seed"), self.config.get("token_seed")

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """The token width D of the backbones that it fits; None if it fits every width."""

    @property
    def count(self) -> int | None:
        """The number of extra tokens, n; None for a kind that adds none."""
        return None

    def model(self, backbone: Backbone) -> Features:
        """Return the backbone with this defense inside, as one pure function of the images.

        What depends on the parameters alone is computed here, once: later changes of theirs need another call.
        """
        require_open(backbone)
        return Defended(backbone, self.entry().bind(backbone.vit))

    def merged_into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return a backbone's weights, by timm's names, with this defense in them; None for kinds that need more."""
        return None

    def to(self, device: torch.device) -> Self:
        """Return the defense on another device."""
        return self.replaced({name: values.to(device) for name, values in self.parameters().items()})

    def detached(self) -> Self:
        """Return the defense without gradients."""
        return self.replaced({name: values.detach() for name, values in self.parameters().items()})

    @property
    def metadata(self) -> dict[str, str]:
        """What it was made for, as the metadata of a file."""
        return {
            "format": DEFENSE_FORMAT,
            "kind": self.kind,
            "backbone": self.backbone or "",
            "image_size": json.dumps(self.image_size),
            "config": json.dumps(self.config),
            "rtok_version": self.version or "",
            "fingerprint": self.fingerprint or "",
        }

    def save(self, path: Path) -> None:
        """Write a safetensors file: the parameters in float32, and as metadata what they were made for."""
        plain = {name: v.detach().to("cpu", torch.float32).contiguous() for name, v in self.parameters().items()}
        seen = {"images_seen": " ".join(sorted(self.seen)[:MOST_SEEN])} if self.seen else {}
        write_atomic(path, to_safetensors(plain, {**self.metadata, **seen}))

    def check(self, backbone: Backbone, file: Path | None = None, *, weights: bool = True) -> None:
        """Refuse a defense that was made for another backbone.

        Args:
            file: where it came from, for the message.
            weights: whether other weights of the same backbone are refused too.

        Raises:
            UserError: another name, another width, or other weights; the message says what the defense was made for.
        """
        if type(self).model is Defense.model:
            require_open(backbone)
        name = backbone.spec.name
        if self.backbone not in (None, name) or self.dim not in (None, backbone.dim):
            made_for = f"'{self.backbone}'" if self.backbone else "a backbone that the file does not name"
            raise UserError(
                f"{self._named(file)} were made for {made_for} (width {self.dim}), not for '{name}' "
                f"(width {backbone.dim}). Set `model.name` to theirs, or give {self.noun} trained for '{name}'."
            )
        if weights and self.fingerprint is not None and self.fingerprint != backbone.fingerprint():
            raise UserError(
                f"{self._named(file)} were trained on other weights of '{name}' (fingerprint {self.fingerprint}) than "
                f"these ({backbone.fingerprint()}), or with another normalization: set `model.weights` and "
                "`model.normalization` to theirs. If it is meant: --set check_weights=false."
            )

    def _named(self, file: Path | None) -> str:
        what = self.noun if self.count is None else f"{self.count} {self.noun}"
        return f"The {what} in '{file}'" if file else f"These {what}"


def as_attribute(name: str) -> str:
    """Return the name of a parameter in a module, where dots would part modules."""
    return name.replace(".", "/")


def require_open(backbone: Backbone) -> None:
    """Refuse a backbone whose blocks nothing can enter, as a UserError."""
    if not backbone.takes_entries:
        raise UserError(backbone.why_closed)


def new_for(backbone: Backbone) -> dict[str, Any]:
    """Return what a new defense says of the backbone whose blocks it enters, as keyword arguments of a `Defense`.

    Raises:
        UserError: nothing can enter its blocks.
    """
    require_open(backbone)
    return {"backbone": backbone.spec.name, "image_size": backbone.image_size, "version": __version__}


def same_twins(defenses: Any) -> dict[Hashable, Defense]:
    """Return the first defense of each `twin_key`, in the order of the keys; those without a control are left out."""
    found: dict[Any, Defense] = {}
    for defense in defenses:
        if defense.has_control:
            found.setdefault(defense.twin_key, defense)
    return dict(sorted(found.items()))
