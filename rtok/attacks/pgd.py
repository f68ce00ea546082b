"""Projected gradient descent, in pixel space, with three seams: start, normalise, project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rtok.attacks.diversity import Diversity
from rtok.attacks.noise import start_noise
from rtok.attacks.objective import Draw, Objective

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Perturbed:
    """An attack's result.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        loss: (B,) the objective at the last gradient evaluation, one step before `images`: free, so training reads the
            undefended similarity from it.
    """

    images: Tensor
    loss: Tensor


@dataclass(frozen=True)
class PGD:
    """PGD (Madry et al., 2018) that maximises an `Objective` per image.

    Args:
        norm: `linf` or `l2`.
        eps: radius in `units`.
        step: step size in `units`; None means `eps / 4`.
        units: `pixel` ([0, 1] values), or `normalized`: pixel differences over the model's std, per channel, which
            makes the ball a box with a radius of its own per channel.
        restarts: independent starts; the one with the largest objective is kept, per image.
        init: `uniform` in the ball, `gaussian` (0.01 * N(0, 1) in `units`) or `none`.
        momentum: decay of the accumulated gradient (MI-FGSM, Dong et al., 2018); 0 is plain PGD.
        mse_weight: weight of minus the pixel MSE in the objective (the paper's attack has 1).
        max_mse: an image stops moving once its pixel MSE reaches this.
        quantize: `round` or `floor` to 8 bits at the end, or `none`.
        diversity: the chance that a step sees the image through `Diversity`.

    Every decision is made per image, so an image's result does not depend on its batch. The radius holds before
    quantisation; after it a pixel may lie half a level (`round`) or one level (`floor`) beyond.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    step: float | None = None
    steps: int = 30
    units: Literal["pixel", "normalized"] = "pixel"
    restarts: int = 1
    init: Literal["uniform", "gaussian", "none"] = "uniform"
    momentum: float = 0.0
    mse_weight: float = 0.0
    max_mse: float | None = None
    quantize: Literal["round", "floor", "none"] = "round"
    diversity: float = 0.0

    def run(
        self,
        images: Tensor,
        objective: Objective,
        *,
        keys: Sequence[str] | None = None,
        std: Tensor | None = None,
        seed: int = 0,
        visits: Sequence[int] | None = None,
        start: Tensor | None = None,
    ) -> Perturbed:
        """Craft one adversarial image per image.

        Args:
            images: clean images (B, 3, H, W) in [0, 1].
            keys: the identities that noise derives from; None numbers the images.
            std: the model's per-channel std, broadcastable to (1, 3, 1, 1); needed for `units: normalized`.
            visits: in training, how often each image came before, so that its noise is new each time.
            start: adversarial images (B, 3, H, W) of another attack, from which the first restart sets out.

        Raises:
            ValueError: images outside [0, 1], or `normalized` units without `std`.
        """
        if images.numel() and (images.amin() < 0 or images.amax() > 1):
            raise ValueError("images must lie in [0, 1]: normalisation belongs inside the model.")
        B = images.shape[0]
        keys = [str(b) for b in range(B)] if keys is None else keys
        visits = [0] * B if visits is None else visits
        scale = pixel_scale(images, self.units, std)
        seen = replace(objective, view=Diversity(self.diversity, keys, seed)) if self.diversity else objective
        best = Perturbed(images, images.new_full((B,), -torch.inf))
        for restart in range(self.restarts if B else 0):
            if start is not None and restart == 0:
                begin = start
            else:
                begin = images + scale * self._noise(images, keys, seed, restart, visits)
            found = self._descend(images, begin, scale, seen, restart)
            best = found if self.restarts == 1 else _better(best, found, objective)
        return best

    def _noise(
        self, images: Tensor, keys: Sequence[str], seed: int, restart: int, visits: Sequence[int]
    ) -> Tensor:
        noise = [
            start_noise(
                self.init,
                self.norm,
                self.eps,
                images[b : b + 1].shape,
                keys[b : b + 1],
                seed,
                restart,
                visits[b],
            )
            for b in range(images.shape[0])
        ]
        return torch.cat(noise).to(images, non_blocking=True)

    def _descend(
        self, images: Tensor, start: Tensor, scale: Tensor, objective: Objective, restart: int
    ) -> Perturbed:
        step = (self.eps / 4 if self.step is None else self.step) * scale
        adversarial = self._project(start, images, scale)
        velocity = torch.zeros_like(images) if self.momentum else None
        loss = images.new_full((images.shape[0],), -torch.inf)
        for k in range(self.steps):
            loss, gradient = objective.loss_and_gradient(adversarial, Draw(restart, k))
            if (
                self.mse_weight
            ):  # the gradient of -mse_weight * mean((adversarial - images)^2), in closed form
                pixels = images[0].numel()
                gradient = gradient.sub(adversarial - images, alpha=2 * self.mse_weight / pixels)
            if velocity is not None:
                mean = _per_image(gradient.abs().mean((1, 2, 3)))  # 0 where the loss is flat
                unit = gradient / mean.clamp(min=torch.finfo(gradient.dtype).tiny)
                gradient = velocity = self.momentum * velocity + unit
            moved = self._project(adversarial + step * self._normalise(gradient, scale), images, scale)
            if self.max_mse is None:
                adversarial = moved
            else:
                moving = (adversarial - images).square().mean((1, 2, 3)) < self.max_mse
                adversarial = torch.where(_per_image(moving), moved, adversarial)
        return Perturbed(quantized(adversarial, self.quantize), loss)

    def _normalise(self, gradient: Tensor, scale: Tensor) -> Tensor:
        """The steepest direction of length one in the attack's units."""
        if self.norm == "linf":
            return gradient.sign()
        gradient = gradient * scale  # chain rule from pixels to units
        return gradient / _per_image(gradient.flatten(1).norm(dim=1)).clamp(
            min=torch.finfo(gradient.dtype).tiny
        )

    def _project(self, adversarial: Tensor, images: Tensor, scale: Tensor) -> Tensor:
        return project(adversarial, images, self.norm, self.eps, scale)


def pixel_scale(images: Tensor, units: str, std: Tensor | None) -> Tensor:
    """Pixel values per unit, broadcastable to (1, 3, 1, 1).

    Raises:
        ValueError: `normalized` units without `std`.
    """
    if units == "pixel":
        return images.new_ones(1, 1, 1, 1)
    if std is None:
        raise ValueError("units='normalized' needs the model's std.")
    return std.to(images)


def project(
    adversarial: Tensor, images: Tensor, norm: Norm, eps: float, scale: Tensor | float = 1.0
) -> Tensor:
    """The nearest images (B, 3, H, W) inside the ball around `images`, of radius `eps * scale`, and inside [0, 1]."""
    delta = adversarial - images
    if norm == "linf":
        radius = torch.as_tensor(eps * scale).to(images)
        delta = torch.minimum(torch.maximum(delta, -radius), radius)
    else:
        length = _per_image((delta / scale).flatten(1).norm(dim=1))
        delta = delta * (eps / length.clamp(min=eps))
    return (images + delta).clamp_(0, 1)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def quantized(images: Tensor, how: str) -> Tensor:
    """Bring images to the 256 levels that a file holds, or leave them."""
    if how == "none":
        return images
    # A value that came from 8 bits can sit a rounding error below its level, and floor must not lose the level.
    levels = (images * 255).round() if how == "round" else (images * 255 + 1e-4).floor()
    return levels.clamp_(0, 255).div_(255)


def _better(best: Perturbed, found: Perturbed, objective: Objective) -> Perturbed:
    """Keep, per image, the restart whose final image has the larger objective."""
    loss = objective.loss(found.images, Draw(0, -1))  # one draw for all restarts, so that they compare
    keep = loss > best.loss
    return Perturbed(
        torch.where(_per_image(keep), found.images, best.images), torch.where(keep, loss, best.loss)
    )
