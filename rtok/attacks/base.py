"""What an attack is, and `craft`, which runs one and vouches for its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from rtok.attacks.ball import distance, per_image, pixel_scale, project, quantized
from rtok.attacks.objective import Objective, Passes
from rtok.config.attack import AttackConfig
from rtok.config.problems import report
from rtok.config.registry import ATTACKS
from rtok.config.validation import describe
from rtok.errors import UserError
from rtok.models.images import check_range, check_shape

Settings = TypeVar("Settings", bound=AttackConfig)

# Rounding errors put the images of sound attacks this far outside of their ball, relative to radii above 1.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Context:
    """What belongs to the images of a batch and the model, but not to the attack.

    Attributes:
        keys: the images' identities, which noise derives from.
        seed: the run's seed, which noise derives from too.
        visits: in training, how often each image came before, so that its noise is new each time; None means never.
        std: the model's per-channel std (1, 3, 1, 1); needed for `units: normalized`.
        start: adversarial images (B, 3, H, W) of another attack to set out from.
    """

    keys: Sequence[str]
    seed: int = 0
    visits: Sequence[int] | None = None
    std: Tensor | None = None
    start: Tensor | None = None

    @classmethod
    def of(cls, images: Tensor, **more: Any) -> Context:
        """Number the images (B, 3, H, W), where they have no names."""
        return cls([str(b) for b in range(len(images))], **more)


@dataclass(frozen=True)
class Perturbed:
    """An attack's result.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        loss: (B,) the objective at the attack's last look at each image. With PGD that is one step before `images`:
            it is free there, so training reads the undefended similarity from it.
    """

    images: Tensor
    loss: Tensor


class Attack(Protocol):
    """Turns clean images into adversarial ones by maximizing an objective."""

    @property
    def settings(self) -> AttackConfig:
        """The options it was built from."""
        ...

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        """Craft one adversarial image per clean image (B, 3, H, W) in [0, 1], not yet brought to 8 bits."""
        ...


@dataclass(frozen=True)
class Crafted:
    """An attack's checked result.

    Attributes:
        images: (B, 3, H, W) in the ball and in [0, 1], then quantized as the attack's settings say. Quantization can
            move a pixel half a level (`round`) or one level (`floor`) beyond the radius.
        loss: (B,) as in `Perturbed`.
        gradients, forwards: (B,) how often the attack asked the surrogate's models about each image; each gradient is
            one of the forward passes too.
    """

    images: Tensor
    loss: Tensor
    gradients: Tensor
    forwards: Tensor


def craft(attack: Attack, images: Tensor, objective: Objective, context: Context | None = None) -> Crafted:
    """Run an attack on clean images (B, 3, H, W) in [0, 1].

    An image that the attack left outside of its ball or of [0, 1] is brought back. A set from disk is used as it is.

    Args:
        context: None numbers the images.

    Raises:
        UserError: images of another shape or type, or outside [0, 1]; `normalized` units without `std`; the attack
            returned images of another shape or without finite values.
    """
    check_shape(images)
    check_range(images)
    context = Context.of(images) if context is None else context
    passes = Passes.none(images)
    found = attack.run(images, replace(objective, passes=passes), context)
    _check(attack.settings.method, images, found)
    made = found.images
    if attack.settings.stored is None and len(images):
        made = quantized(_inside(made, images, attack.settings, context.std), attack.settings.quantize)
    return Crafted(made, found.loss, passes.gradients, passes.forwards)


def build(settings: AttackConfig) -> Attack:
    """Build the algorithm that `attack.method` names."""
    attack: Attack = ATTACKS.find(settings.method).load()(settings)
    return attack


def read_settings(section: type[Settings], settings: Settings | None, options: dict[str, Any]) -> Settings:
    """Return an algorithm's settings, given whole or by keywords.

    Raises:
        UserError: a keyword is unknown or has a wrong value.
    """
    if settings is not None and not options:
        return settings
    name = section.model_fields["method"].default
    if settings is not None:
        raise UserError(f"{name}: give either settings or keywords ({', '.join(options)}), not both.")
    try:
        return section.model_validate(options)
    except ValidationError as error:
        raise report(name, [describe(details, section) for details in error.errors()]) from None


def _check(name: str, images: Tensor, found: Perturbed) -> None:
    for what, given, wanted in (("images", found.images, images.shape), ("losses", found.loss, images.shape[:1])):
        if given.shape != wanted:
            raise UserError(
                f"The attack {name} returned {what} of shape {tuple(given.shape)} for clean images of shape "
                f"{tuple(images.shape)}: it must return shape {tuple(wanted)}."
            )
    if not found.images.isfinite().all():
        raise UserError(f"The attack {name} returned images with NaN or infinite values: it must return numbers.")


def _inside(made: Tensor, images: Tensor, settings: AttackConfig, std: Tensor | None) -> Tensor:
    """Bring back the images that lie outside of the ball or of [0, 1]; the others keep their bits."""
    norm, eps, scale = settings.norm, settings.eps, pixel_scale(images, settings.units, std)
    outside = distance(made, images, norm, scale) > eps + TOLERANCE * max(1.0, eps)
    return torch.where(per_image(outside), project(made, images, norm, eps, scale), made).clamp(0, 1)
