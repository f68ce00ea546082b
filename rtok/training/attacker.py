"""The attacks of a training step: on the plain backbone, through the defense that it trains, or half of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rtok.attacks.base import Context, Crafted, build, craft
from rtok.attacks.criteria import FeatureCriterion, cosine
from rtok.attacks.graphs import graphs_for
from rtok.attacks.objective import FixedSurrogate, Model, Objective
from rtok.compute import Compute
from rtok.data.loader import Batch
from rtok.defenses import Defense
from rtok.training.objective import DistanceCriterion
from rtok.training.schedules import radius

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.models.backbone import Backbone


@dataclass(frozen=True)
class AttackedBatch:
    """A clean batch, its adversarial twin and what training needs of both.

    Attributes:
        clean, adversarial: (b, 3, H, W) in [0, 1].
        target: plain features of the clean images, without gradient.
        undefended: (b,) cosine of plain(adversarial) to plain(clean); where the attack was crafted on the plain
            backbone, that of its last gradient evaluation, which is free.
        keys, visits: what each image's noise derives from.
        through_defense: the places of the images that are attacked through the defense; until then `adversarial` is
            clean there.
        eps: the radius of the attack, in its units.
    """

    clean: Tensor
    adversarial: Tensor
    target: Tensor
    undefended: Tensor
    keys: Sequence[str]
    visits: Sequence[int]
    through_defense: list[int]
    eps: float

    @property
    def effect(self) -> tuple[Tensor, Tensor]:
        """The means of `undefended` and of the squared change of a pixel."""
        return self.undefended.mean(), (self.adversarial - self.clean).square().mean()


class Attacker:
    """Crafts a step's adversarial images as `train.threat` says, always away from the plain clean features.

    `transfer`: on the plain backbone, once for all defenses of the run (the paper). `adaptive`: on the backbone with
    the defense as it is now, once for each. `mixed`: every second image of the run each, so that every update answers
    both attackers at the cost of one; which image meets which changes with every shuffle.
    """

    def __init__(self, config: Config, compute: Compute, backbone: Backbone) -> None:
        self.compute = compute
        self.backbone = backbone
        self.attack = config.attacks[0]
        self.axis, self.pulled = config.attacks[0].axis, config.attacks[0].features
        self.criterion = FeatureCriterion if config.train.objective == "cosine" else DistanceCriterion
        self.seed = config.seed
        self.settings = config.train
        self.threat = config.train.threat
        self.batch_size = config.train.batch_size
        self.micro_batch = config.train.micro_batch
        self.graphs = graphs_for(compute)

    def shares(self, defenses: int) -> tuple[float, float]:
        """What share of a step's attacks is `on_plain`, and what each `through`, with so many defenses."""
        images = {"transfer": 0.0, "mixed": 0.5, "adaptive": 1.0}[self.threat]  # attacked through a defense
        total = 1 - images + images * defenses
        return (1 - images) / total, images / total

    def on_plain(self, step: int, batch: Batch) -> AttackedBatch:
        """Attack the images that the plain backbone is attacked with; the others wait for `through`."""
        clean = batch.on(self.compute.device)
        eps = radius(self.settings, self.attack.eps, step)
        places = self._through_defense(step, len(clean)) if eps else []
        same = clean.new_ones(len(clean))  # the cosine of an image that is not attacked
        attacked = AttackedBatch(
            clean, clean.clone(), self._features(clean), same, batch.keys, batch.visits, places, eps
        )
        public = [b for b in range(len(clean)) if b not in places]
        if not eps or not public:
            return attacked
        found = self._craft(self.backbone, attacked, public)
        attacked.adversarial[public], attacked.undefended[public] = found.images, -found.loss
        if (self.criterion, self.pulled) != (FeatureCriterion, "all"):  # whose loss is the cosine
            attacked.undefended[public] = cosine(self._features(found.images), attacked.target[public], self.axis)
        return attacked

    def through(self, defense: Defense, attacked: AttackedBatch) -> AttackedBatch:
        """Attack the images that wait on the backbone with `defense`; `attacked` stays as it is."""
        places = attacked.through_defense
        if not places:
            return attacked
        found = self._craft(defense.detached().model(self.backbone), attacked, places)
        adversarial, undefended = attacked.adversarial.clone(), attacked.undefended.clone()
        adversarial[places] = found.images
        undefended[places] = cosine(self._features(found.images), attacked.target[places], self.axis)
        return replace(attacked, adversarial=adversarial, undefended=undefended)

    def _craft(self, model: Model, attacked: AttackedBatch, places: list[int]) -> Crafted:
        criterion = self.criterion(attacked.target[places], self.axis, self.pulled)
        objective = Objective(FixedSurrogate(model), criterion, self.micro_batch, graphs=self.graphs)
        context = Context(
            [attacked.keys[b] for b in places],
            seed=self.seed,
            visits=[attacked.visits[b] for b in places],
            std=self.backbone.std,
        )
        attack = build(self.attack.scaled(attacked.eps / self.attack.eps))
        return craft(attack, attacked.clean[places], objective, context)

    def _through_defense(self, step: int, size: int) -> list[int]:
        """Which of this process's images meet the adaptive attack, whatever the number of processes."""
        if self.threat == "transfer":
            return []
        first = (step - 1) * self.batch_size + self.compute.process * size  # numbered through the whole run
        return [b for b in range(size) if self.threat == "adaptive" or (first + b) % 2]

    def _features(self, images: Tensor) -> Tensor:
        return features_of(self.backbone, images, self.micro_batch)


@torch.no_grad()
def features_of(model: Model, images: Tensor, micro_batch: int | None) -> Tensor:
    """Features of a batch that is not empty, so many images at a time."""
    return torch.cat([model(part) for part in images.split(micro_batch or len(images))])
