"""One training step: attack a batch, then update every defense with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.activity import doing
from rtok.attacks.criteria import cosine
from rtok.compute import Compute
from rtok.data.loader import Batch
from rtok.training.attacker import AttackedBatch, Attacker
from rtok.training.objective import likeness
from rtok.training.schedules import learning_rate
from rtok.training.state import Trainee

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.models.backbone import Backbone


class Trainer:
    """Attacks batches and updates defenses; knows nothing of files."""

    def __init__(self, config: Config, compute: Compute, backbone: Backbone, trainees: Sequence[Trainee]) -> None:
        self.settings = config.train
        self.compute = compute
        self.backbone = backbone
        self.trainees = trainees
        self.attacker = Attacker(config, compute, backbone)

    def step(self, step: int, batch: Batch) -> list[dict[str, Any]]:
        """Attack one batch and update every defense with it; one row of metrics for each."""
        begin = time.perf_counter()
        lr = learning_rate(self.settings, step)
        first, each = self.attacker.shares(len(self.trainees))
        with doing("attack", 0, first):
            shared = self.attacker.on_plain(step, batch)
        shared_seconds = time.perf_counter() - begin
        rows = []
        for number, t in enumerate(self.trainees):
            begin, done = time.perf_counter(), first + number * each
            with doing(f"{'attack through' if each else 'update of'} {t.name or 'the defense'}", done, done + each):
                attacked = self.attacker.through(t.defense, shared)
            for group in t.optimizer.param_groups:
                group["lr"] = lr
            values = self.compute.mean(torch.stack([*self.update(t, attacked), *attacked.effect])).tolist()
            t.follow(step, self.settings.ema)
            *terms, invariance, adversarial, undefended, image_mse = values
            which = {"count": t.count, "seed": t.seed} if t.name else {}
            loss = -(self.settings.invariance_weight * terms[0] + terms[1])
            row = {"step": step, **which, "loss": loss, "invariance": invariance, "adversarial": adversarial}
            row |= {"undefended": undefended, "image_mse": image_mse, "lr": lr}
            row |= {"eps": shared.eps} if self.settings.eps_schedule else {}
            rows.append({**row, "seconds": round(shared_seconds + time.perf_counter() - begin, 4)})
        return rows

    def update(self, t: Trainee, batch: AttackedBatch) -> list[Tensor]:
        """Maximize weight * invariance + adversarial term over the defense alone.

        Returns both terms as they are trained, then both as cosines, as means over the batch.
        """
        B, settings = batch.clean.shape[0], self.settings
        t.optimizer.zero_grad(set_to_none=True)
        model = t.defense.model(self.backbone)
        found = []
        for part in self.parts(B):
            images = torch.cat([batch.clean[part], batch.adversarial[part]])  # one forward for both terms
            features = model(images).chunk(2)
            terms = [likeness(one, batch.target[part], settings) for one in features]
            (-(settings.invariance_weight * terms[0] + terms[1]).sum() / B).backward()
            terms = [term.detach() for term in terms]
            if settings.objective == "cosine":
                found.append(terms * 2)
            else:
                cosines = [cosine(one.detach(), batch.target[part], settings.axis) for one in features]
                found.append(terms + cosines)
        for values in t.defense.parameters().values():
            if values.grad is not None:
                values.grad = self.compute.mean(values.grad)
        t.optimizer.step()
        return [torch.cat(parts).mean() for parts in zip(*found, strict=True)]

    def parts(self, size: int) -> Iterator[slice]:
        """Cut a batch into micro-batches."""
        micro_batch = self.settings.micro_batch or size
        return (slice(i, min(size, i + micro_batch)) for i in range(0, size, micro_batch))
