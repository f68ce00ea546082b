"""The defenses that an attacker fits to a deployed model's answers, for the `extracted` threat: model extraction.

The attacker has the public backbone and head, and may ask the victim. They start from an untrained defense of the
victim's kind and move its parameters until the public model with it answers as the victim does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import cos, pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.attacks.criteria import cosine
from rtok.attacks.noise import generator
from rtok.console import progress
from rtok.data.loader import Batch, training_batches
from rtok.data.source import ImageSource
from rtok.defenses import Defense, load_defense
from rtok.errors import UserError
from rtok.evaluation.victims import Victim

if TYPE_CHECKING:
    from rtok.config.threats import ExtractedConfig
    from rtok.evaluation.task import Task
    from rtok.runs.run import Run
    from rtok.setup import Setup

FOLDER = "extracted"  # of the run: a file for each victim, which a resumed evaluation finds there
BATCH = 8  # images a step, as in the paper's training; fixed, so that a fit depends on no other setting
NOISE = 8 / 255  # how far queries on noisy versions of an image lie around it: the usual radius of attacks


@dataclass(frozen=True)
class ExtractedDefenses:
    """The attacker's copies of each victim, through the public head; they are there after `prepare`.

    Attributes:
        queried: the images that the victims are asked about.
        copies: the attacker's model of each victim.
    """

    setup: Setup
    settings: ExtractedConfig
    queried: ImageSource
    copies: dict[Victim, Victim] = field(default_factory=dict)

    @classmethod
    def open(cls, setup: Setup) -> ExtractedDefenses:
        """Open the images to ask about.

        Raises:
            UserError: there are fewer of the attacker's own than queries.
        """
        config = setup.config
        settings, data = config.extracted, config.data
        assert settings is not None
        if settings.queries is None:
            return cls(setup, settings, setup.source)
        queried = setup.open_source(settings.images(data))
        if len(queried) < settings.queries:
            raise UserError(
                f"extracted.queries is {settings.queries}, but the train split of data has {len(queried)} images: ask "
                "fewer, or about the attacked images with extracted: {queries_per_image: 2}."
            )
        return cls(setup, settings, queried)

    def prepare(self, run: Run, task: Task, plain: Victim, *victims: Victim) -> None:
        """Fit a copy of each victim, and keep it in the run's folder; the processes share the work."""
        compute, folder = self.setup.compute, run.path / FOLDER
        folder.mkdir(exist_ok=True)
        files = {victim: folder / f"{number}-{victim.role}.safetensors" for number, victim in enumerate(victims, 1)}
        missing = [victim for victim in victims if not files[victim].exists()]
        compute.wait()  # every process has looked before one writes
        for victim in missing[compute.process :: compute.processes]:
            copy = self.fit(task, plain, victim, label=f"copy {list(files).index(victim) + 1} of {len(files)}")
            copy.save(files[victim])
        compute.wait()
        for victim, file in files.items():
            self.copies[victim] = plain.with_defense(load_defense(file).to(compute.device))

    def fit(self, task: Task, plain: Victim, victim: Victim, label: str = "copy") -> Defense:
        """Return a defense with which the public model answers as the victim does: a function of the seed and images.

        Adam minimizes the difference of the answers, with a learning rate that falls to zero along half a cosine.
        """
        settings, config, compute = self.settings, self.setup.config, self.setup.compute
        assert victim.defense is not None
        start = victim.defense.untrained(self.setup.backbone, config.seed, FOLDER)
        leaves = {name: values.detach().clone().requires_grad_(True) for name, values in start.parameters().items()}
        optimizer = torch.optim.Adam(leaves.values(), lr=settings.lr or start.fit_lr)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + cos(pi * step / settings.steps)) / 2)
        ask = task.model(victim)
        with progress(label, settings.steps, unit="step", enabled=compute.is_main) as bar:
            for images in self._queries():
                with torch.no_grad():
                    answers = ask(images)
                # a model computes what depends on the parameters alone once, so each step makes its own
                copy = task.model(plain.with_defense(start.replaced(leaves)))
                loss = difference(copy(images), answers, task.objective).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                falling.step()
                bar.advance(1, difference=float(loss.detach()))
        return start.replaced(leaves).detached()

    def _queries(self) -> Iterator[Tensor]:
        """What is asked at each step, (b, 3, H, W) on the device; the same image again costs no further query."""
        setup, settings, config = self.setup, self.settings, self.setup.config
        batches = training_batches(
            self.queried,
            setup.transform,
            batch_size=1 if setup.sizes_differ else BATCH,
            start=0,
            steps=settings.steps,
            seed=config.seed,
            workers=config.data.worker_count,
            on_error=config.data.on_error,
        )
        for batch in batches:
            yield self._version(batch).to(setup.compute.device)

    def _version(self, batch: Batch) -> Tensor:
        """The images themselves at first, then noisy versions, which take turns."""
        versions = self.settings.queries_per_image or 1
        images = []
        for image, key, visit in zip(batch.images, batch.keys, batch.visits, strict=True):
            if version := visit % versions:
                random = generator(self.setup.config.seed, key, FOLDER, version)
                image = (image + NOISE * (2 * torch.rand(image.shape, generator=random) - 1)).clamp(0, 1)
            images.append(image)
        return torch.stack(images)


def difference(output: Tensor, answer: Tensor, objective: str) -> Tensor:
    """How far one model's answers are from another's, per image (b,).

    For features one minus the cosine over channels; for scores, (b, K) or (b, K, H, W), the Kullback-Leibler divergence
    from the answer's distribution over classes, averaged over pixels.
    """
    if objective == "features":
        return 1 - cosine(output, answer, "channel")
    mine, other = output.float().log_softmax(1), answer.float().log_softmax(1)
    divergence = F.kl_div(mine, other, reduction="none", log_target=True).sum(1)
    return divergence.reshape(len(divergence), -1).mean(1)
