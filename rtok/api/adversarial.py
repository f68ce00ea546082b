"""`rtok.attack`: adversarial images of a model, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from rtok.api.models import evaluating, normalized
from rtok.attacks import Context, FeatureCriterion, FixedSurrogate, LabelCriterion, MaskCriterion, Objective, craft
from rtok.attacks.base import build
from rtok.attacks.objective import Criterion
from rtok.config.attack import AttackConfig, choose, read_attack
from rtok.config.problems import report
from rtok.config.registry import ATTACKS
from rtok.config.validation import describe
from rtok.data.memory import read_memory
from rtok.errors import UserError
from rtok.models.images import check_range, check_shape

_NO_LABEL = -100  # torch's own: every index from 0 on may be a class


def attack(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor | None = None,
    *,
    eps: float | str | None = None,
    norm: Literal["linf", "l2"] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int = 32,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """Return adversarial images: `rtok.attack(classifier, images, labels, eps=4 / 255)`.

    With labels the attack makes a classifier wrong (or, with masks of labels, a segmentation); without, it pulls the
    output away from what it is on the clean images: an attack on features.

    Args:
        model: a module or a function from images to logits or features, such as a `rtok.Backbone`, or what
            `defense.model(backbone)` returns. A module is in evaluation mode for the time of the attack.
        images: (B, 3, H, W), floats in [0, 1].
        labels: (B,), or masks (B, H, W); whole numbers.
        eps, norm: the radius in pixels of [0, 1] and its norm; None takes those of `preset`, or 8/255 and `linf`.
        mean, std: three numbers each, where the model wants normalized images.
        batch_size: how many images are attacked at once; the result does not depend on it.
        seed: of the noise, together with the content of each image.
        options: keys of the `attack` section, such as `method`, `preset`, `steps`, `restarts`; PGD without any.

    Returns:
        (B, 3, H, W), on the device of `images`, within the radius and rounded to 8 bits (`quantize="none"`: not).

    Raises:
        UserError: an argument is wrong.
    """
    settings = _settings({**options, **_set(eps=eps, norm=norm)}, objective_of(labels))
    check_shape(images)
    check_range(images)
    surrogate = normalized(model, mean, std)
    parameter = next(model.parameters(), images) if isinstance(model, nn.Module) else images
    spread = getattr(getattr(model, "backbone", surrogate), "std", None)
    algorithm, keys, found = build(settings), read_memory(images).keys if len(images) else (), []
    with evaluating(model):
        for part in (slice(start, start + batch_size) for start in range(0, len(images), batch_size)):
            clean = images[part].to(parameter.device)
            with torch.no_grad():
                output = surrogate(clean)
            criterion = _criterion(output, None if labels is None else labels[part].to(clean.device), settings)
            context = Context(keys[part], seed=seed, std=None if spread is None else spread.to(clean))
            crafted = craft(algorithm, clean, Objective(FixedSurrogate(surrogate), criterion), context)
            found.append(crafted.images.to(images.device))
    return torch.cat(found) if found else images.clone()


def objective_of(labels: Tensor | None) -> str:
    """Return what labels of this shape have attacked: `features`, `labels` or `masks`.

    Raises:
        UserError: they are none of these.
    """
    if labels is None:
        return "features"
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim not in (1, 3):
        given = (
            f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        )
        raise UserError(f"labels are {given}; valid: a tensor of whole numbers, (B,), or masks (B, H, W).")
    return "labels" if labels.ndim == 1 else "masks"


def _set(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _settings(written: dict[str, Any], objective: str) -> AttackConfig:
    if written.get("norm") == "l2" and not {"eps", "preset"} & written.keys():
        raise UserError("rtok.attack: norm='l2' needs a radius, such as eps=3.0.")
    try:
        settings = read_attack(written)
    except ValidationError as error:
        section = ATTACKS.find(choose(written)).section
        assert section is not None
        raise report("rtok.attack", [describe(details, section) for details in error.errors()]) from None
    if settings.members != [settings] or settings.warm or settings.stored or settings.depth < 1:
        raise UserError(
            f"rtok.attack runs one attack on a model's output, and '{settings.label}' is more than that: use "
            "rtok.evaluate, or options such as method='apgd'."
        )
    if objective not in settings.objectives:
        valid = " or ".join(settings.objectives)
        raise UserError(f"rtok.attack: {settings.method} attacks {valid}, not {objective}: use method='pgd'.")
    return settings


def _criterion(output: Tensor, labels: Tensor | None, settings: AttackConfig) -> Criterion:
    if labels is None:
        return FeatureCriterion(output, settings.axis, settings.features)
    axes, what = (2, "logits (B, K)") if labels.ndim == 1 else (4, "logits (B, K, H, W)")
    if output.ndim != axes or len(labels) != len(output):
        raise UserError(
            f"rtok.attack: labels of shape {tuple(labels.shape)} need a model with {what}, and its output is "
            f"{tuple(output.shape)}: leave labels out to attack features."
        )
    classes = output.shape[1]
    if labels.numel() and labels[labels != _NO_LABEL].ge(classes).any():
        raise UserError(f"rtok.attack: the largest label is {int(labels.max())}, and the model has {classes} classes.")
    if labels.ndim == 1:
        return LabelCriterion(labels, _NO_LABEL, settings.loss)  # type: ignore[arg-type]
    return MaskCriterion(labels, _NO_LABEL, settings.loss)
