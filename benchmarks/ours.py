"""The same work through `rtok`'s own classes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.measure import passes
from rtok.attacks import Context, FeatureCriterion, FixedSurrogate, Objective, build, craft
from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.data.loader import Batch
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.tasks.features import FeatureTask
from rtok.evaluation.trial import AttackRun, Trial
from rtok.evaluation.victims import Victim
from rtok.models import load_backbone
from rtok.models.backbone import Backbone
from rtok.models.registry import find
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer


class Ours:
    """A trainer and an evaluator on one backbone and one batch of images in [0, 1]."""

    def __init__(self, config: Config, backbone: Backbone, compute: Compute, images: Tensor, victims: int) -> None:
        self.images = images
        self.batch = batch_of(images)
        trainees = make_trainees(config, backbone, compute.device)
        self.trainer = Trainer(config, compute, backbone, trainees)
        self.pgd = build(config.attacks[0])
        defense = trainees[0].defense.detached()
        self.robust = defense.model(backbone)
        plain = Victim("plain", backbone)
        robust = [Victim("robust", self.robust, defense, str(i)) for i in range(victims)]
        run = AttackRun(config.attacks[0], self.pgd, FixedSurrogate(backbone), backbone)
        everyone = [plain, *robust]
        trial = Trial("paper", config.attacks[0], "transfer", config.model.name, [run], everyone, None, 1.8 / 255)
        self.evaluator = Evaluator(FeatureTask(), everyone, [trial], device=compute.device, std=backbone.std, seed=0)
        self.backbone = backbone
        self.steps, self.victims = config.attacks[0].counts["steps"] or 0, victims

    def flops(self, part: str) -> tuple[int, int]:
        """What a part needs at least: for the gradients of its attack, and for all else."""
        forward, backward = passes(lambda: self.backbone(self.images))
        robust, robust_backward = passes(lambda: self.robust(self.images))
        return self.steps * (forward + backward), {
            "attack": forward,
            "peers": 0,  # labels need no clean features
            "step": forward + 2 * (robust + robust_backward),  # clean and adversarial images
            "evaluation": 3 * forward + 2 * self.victims * robust,
        }[part]

    def attack(self) -> None:
        """The attack alone."""
        with torch.no_grad():
            target = self.backbone(self.images)
        objective = Objective(FixedSurrogate(self.backbone), FeatureCriterion(target, "token"))
        craft(self.pgd, self.images, objective, Context(self.batch.keys, std=self.backbone.std))

    def training_step(self) -> None:
        """One training step."""
        self.trainer.step(1, self.batch)

    def evaluation(self) -> None:
        """One batch of evaluation under `transfer`."""
        self.evaluator.evaluate(self.batch)


def batch_of(images: Tensor) -> Batch:
    """A batch of images in [0, 1], as a loader gives it to a training that sees them for the first time."""
    keys = tuple(f"{b}.png" for b in range(len(images)))
    return Batch(images, keys, None, keys, (0,) * len(keys))


def make_config(model: str, image_size: int, batch: int, steps: int, **more: Any) -> Config:
    """The paper's training config with random images in mind."""
    return Config.model_validate(
        {
            "model": {"name": model, "image_size": image_size},
            "defense": {"kind": "tokens", "count": 10},
            "data": {"name": "photos"},
            "attack": {"preset": "paper", "steps": steps},
            "train": {"batch_size": batch},
            **more,
        }
    )


def load_random(model: str, image_size: int) -> Any:
    """The architecture with random weights: timing does not depend on them, and no download is needed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        save_random(model, path)
        return load_backbone(model, weights=path, image_size=image_size)


def save_random(model: str, path: Path) -> None:
    """Write random weights."""
    spec = find(model)
    classes: dict[str, Any] = {} if spec.kind == "embedding" else {"num_classes": 0}
    vit = timm.create_model(spec.timm_name, img_size=spec.native_size, **classes)
    save_file({name: tensor.contiguous() for name, tensor in vit.state_dict().items()}, path)
