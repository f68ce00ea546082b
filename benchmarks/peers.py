"""The same PGD on the same classifier, by `rtok`, foolbox (Rauber et al., 2020) and torchattacks (Kim, 2020).

Every program takes the same steps on the logits of a ViT, once as timm loads it, whose weights then get gradients with
every step, and once with them frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.naive import NaiveModel
from rtok.attacks import FixedSurrogate, LabelCriterion, Objective, craft
from rtok.attacks.pgd import PGD
from rtok.models.backbone import Backbone

EPS, STEP = 8 / 255, 2 / 255  # pixels
CLASSES = 1000
LIBRARIES = ("foolbox", "torchattacks")


class AsLoaded(nn.Module):
    """A ViT of timm and a linear head on its class token, as users put them together."""

    mean: Tensor
    std: Tensor

    def __init__(self, reference: NaiveModel, backbone: Backbone) -> None:
        super().__init__()
        self.reference = reference
        self.head = nn.Linear(backbone.dim, CLASSES)
        self.register_buffer("mean", backbone.mean)
        self.register_buffer("std", backbone.std)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images in [0, 1]."""
        return self.head(self.reference((images - self.mean) / self.std, False)[:, 0])


class Ours(nn.Module):
    """The same with `rtok`'s backbone."""

    def __init__(self, backbone: Backbone, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images in [0, 1]."""
        return self.head(self.backbone(images)[:, 0])


def works(reference: NaiveModel, backbone: Backbone, images: Tensor, steps: int) -> dict[str, Callable[[], object]]:
    """Return what to time, by name: `rtok`, and each library that is installed on the two kinds of model."""
    labels = torch.arange(len(images), device=images.device)
    loaded = AsLoaded(reference, backbone).to(images.device).eval()
    ours = Ours(backbone, loaded.head)
    pgd = PGD(eps=EPS, step=STEP, steps=steps)
    objective = Objective(FixedSurrogate(ours), LabelCriterion(labels))
    found: dict[str, Callable[[], object]] = {"rtok": lambda: craft(pgd, images, objective)}
    for library in (library for library in LIBRARIES if find_spec(library)):
        for name, trained in (("as loaded", True), ("frozen", False)):
            attack = {"foolbox": _foolbox, "torchattacks": _torchattacks}[library](loaded, images, labels, steps)
            found[f"{library}, {name}"] = partial(_attacked, attack, loaded, trained)
    return found


def _attacked(attack: Callable[[nn.Module], object], model: nn.Module, trained: bool) -> object:
    return attack(model.requires_grad_(trained))


def _foolbox(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Callable[[nn.Module], object]:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=steps, random_start=True)
    return lambda _: attack.run(wrapped, images, labels, epsilon=EPS)


def _torchattacks(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Callable[[nn.Module], object]:
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=steps, random_start=True)
    return lambda _: attack(images, labels)
