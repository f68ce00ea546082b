"""Validation during a training: held-out images, attacked white-box through each defense as it is."""

from __future__ import annotations

from math import fsum
from typing import Any

from rtok.activity import doing
from rtok.attacks.base import Context, build, craft
from rtok.attacks.criteria import FeatureCriterion, cosine
from rtok.attacks.graphs import graphs_for
from rtok.attacks.objective import FixedSurrogate, Objective
from rtok.config.attack import AttackConfig, read_attack
from rtok.config.training import ValidateConfig
from rtok.data.loader import evaluation_batches
from rtok.data.source import ImageSource
from rtok.data.transforms import Transform
from rtok.defenses import Defense
from rtok.errors import UserError
from rtok.setup import Setup
from rtok.training.attacker import features_of
from rtok.training.state import Best, Trainee

DEFAULT_STEPS = 10  # of the attack: several times those of a usual training step, and still cheap


class Validator:
    """Measures every defense on the same few images, and remembers the best state of each.

    Args:
        source: the held-out images; a random crop of the training becomes a central one, and nothing is mirrored.
    """

    def __init__(self, setup: Setup, source: ImageSource, settings: ValidateConfig) -> None:
        config = setup.config
        self.setup = setup
        self.every, self.last = settings.every, config.train.total_steps
        self.attack = settings.attack or _default(config.attacks[0])
        resize = "crop" if config.data.resize == "random-crop" else config.data.resize
        batches = evaluation_batches(
            source,
            Transform(resize, setup.backbone.image_size),
            batch_size=config.train.batch_size,
            seed=config.seed,
            process=setup.compute.process,
            processes=setup.compute.processes,
            on_error=config.data.on_error,
        )
        self.batches = [batch for batch in batches if len(batch)]
        self.skipped = batches.skipped
        self.graphs = graphs_for(setup.compute)

    def add(self, step: int, rows: list[dict[str, Any]], trainees: list[Trainee]) -> None:
        """Add `cosine_to_plain` and `fidelity` to the rows of a step that is validated, and keep the best states."""
        if step % self.every and step != self.last:
            return
        for row, t in zip(rows, trainees, strict=True):
            defense = t.current.detached()
            with doing(f"held-out images through {t.name or 'the defense'}", 1, 1):  # behind the step
                found, fidelity = self.measure(defense)
            row |= {"cosine_to_plain": found, "fidelity": fidelity}
            if t.best is None or found > t.best.cosine_to_plain:
                state = {name: values.clone() for name, values in defense.parameters().items()}
                t.best = Best(step, found, fidelity, state)

    def measure(self, defense: Defense) -> tuple[float, float]:
        """The mean channel cosine to the plain clean features, of attacked and of clean images.

        Raises:
            UserError: none of the images can be decoded.
        """
        backbone, device, micro_batch = (
            self.setup.backbone,
            self.setup.compute.device,
            self.setup.config.train.micro_batch,
        )
        model, values = defense.model(backbone), list[tuple[float, ...]]()
        for batch in self.batches:
            clean = batch.on(device)
            target = features_of(backbone, clean, micro_batch)
            criterion = FeatureCriterion(target, self.attack.axis, self.attack.features)
            objective = Objective(FixedSurrogate(model), criterion, micro_batch, graphs=self.graphs)
            context = Context(batch.keys, seed=self.setup.config.seed, std=backbone.std)
            attacked = craft(build(self.attack), clean, objective, context).images
            both = (cosine(features_of(model, images, micro_batch), target, "channel") for images in (attacked, clean))
            values += zip(*(one.tolist() for one in both), strict=True)
        values = self.setup.compute.gather(values)
        if not values:
            raise UserError("train.validate: none of the held-out images can be decoded.")
        # exact sums: the same mean in whatever order processes have the images
        robust, fidelity = (fsum(column) / len(values) for column in zip(*values, strict=True))
        return robust, fidelity


def _default(attack: AttackConfig) -> AttackConfig:
    return read_attack({"steps": DEFAULT_STEPS, "norm": attack.norm, "eps": attack.eps, "units": attack.units})
