"""The one evaluation loop: data, attacks, threats and victims; features, classification and segmentation plug into it.

Nothing is computed twice: a clean pass serves every attack and threat, one `transfer` image serves every victim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.attacks.build import Attack
from rtok.attacks.objective import Model, Objective
from rtok.compute import Compute
from rtok.data.loader import Batch
from rtok.evaluation.task import Columns, Task, View
from rtok.evaluation.threats import Craft
from rtok.evaluation.victims import Victim
from rtok.journal import Journal
from rtok.reporting.console import progress

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig

Record = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """An attack's settings, its algorithm, and the crafts to run it in.

    Attributes:
        eps_pixel: the radius in pixels of [0, 1]; for normalized units the mean over the channels.
    """

    name: str
    settings: AttackConfig
    attack: Attack
    crafts: Sequence[Craft]
    eps_pixel: float

    def identity(self, craft: Craft, seed: int) -> dict[str, Any]:
        """The columns that say how a row's adversarial images were made."""
        counted = self.settings.method == "pgd"  # AutoAttack has steps and restarts of its own
        return {
            "attack": self.name,
            "threat": craft.threat,
            "surrogate": craft.name,
            "norm": self.settings.norm,
            "eps": self.settings.eps,
            "units": self.settings.units,
            "eps_pixel": self.eps_pixel,
            "steps": self.settings.steps if counted else None,
            "restarts": self.settings.restarts if counted else None,
            "seed": seed,
        }


class Evaluator:
    """Runs a task's trials on batches; knows nothing of files.

    Args:
        victims: the plain victim first.
        std: the model's per-channel std, for attacks with normalized units.
        micro_batch: how many images go through a model at once in an attack; None means the batch.
    """

    def __init__(
        self,
        task: Task,
        victims: Sequence[Victim],
        trials: Sequence[Trial],
        *,
        device: torch.device,
        std: Tensor,
        seed: int,
        micro_batch: int | None = None,
    ) -> None:
        self.task = task
        self.victims = victims
        self.trials = trials
        self.device = device
        self.std = std
        self.seed = seed
        self.micro_batch = micro_batch
        self.models = {victim: task.model(victim) for victim in victims}

    def run(
        self, batches: Iterable[Batch], journal: Journal, compute: Compute, total: int, done: int
    ) -> None:
        """Evaluate every batch and append one record per image to the journal on the main process."""
        with progress(
            self.task.command, total=total, unit="image", enabled=compute.is_main, start=done
        ) as bar:
            for batch in batches:
                records = compute.gather(self.evaluate(batch))
                if compute.is_main:
                    journal.append(records)
                bar.advance(len(records), **self._live(records))

    def evaluate(self, batch: Batch) -> list[Record]:
        """One record per image: `{"image", "group", "rows": [...]}` with a row per trial, craft and victim."""
        rows: list[list[dict[str, Any]]] = [[] for _ in batch.keys]
        if batch.keys:
            images = batch.images.to(self.device, non_blocking=True)
            clean = {victim: self._output(self.models[victim], images, batch) for victim in self.victims}
            for trial in self.trials:
                for craft in trial.crafts:
                    for victim, columns in self._tried(trial, craft, batch, images, clean):
                        who = {**trial.identity(craft, self.seed), **victim.identity()}
                        for b, row in enumerate(rows):
                            row.append({**who, **{name: values[b] for name, values in columns.items()}})
        return [
            {"image": key, "group": group, "rows": row}
            for key, group, row in zip(batch.keys, batch.groups, rows, strict=True)
        ]

    def craft(self, trial: Trial, craft: Craft, target: Model, batch: Batch, images: Tensor) -> Tensor:
        """Adversarial images (b, 3, H, W) of one trial against one craft's surrogate, away from one target."""
        criterion = self.task.criterion(trial.settings, batch, self._output(target, images, batch))
        objective = Objective(craft.surrogate, criterion, self.micro_batch)
        return trial.attack.run(images, objective, keys=batch.keys, std=self.std, seed=self.seed).images

    def _tried(
        self, trial: Trial, craft: Craft, batch: Batch, images: Tensor, clean: dict[Victim, Tensor]
    ) -> list[tuple[Victim, dict[str, list[Any]]]]:
        """Per victim the columns of its worst result, per image, over the craft's targets."""
        worst: dict[Victim, Columns] = {}
        for target in craft.targets:
            adversarial = self.craft(trial, craft, target, batch, images)
            probe = craft.probe if self.task.wants_probe else None
            probed = [self._output(probe, x, batch) for x in (images, adversarial)] if probe else [None, None]
            for victim in craft.victims:
                output = self._output(self.models[victim], adversarial, batch)
                view = View(
                    batch, images, adversarial, clean[victim], clean[self.victims[0]], output, *probed
                )
                columns = self.task.measure(view)
                worst[victim] = (
                    _worse(worst[victim], columns, self.task.severity) if victim in worst else columns
                )
        return [
            (victim, {name: _plain_numbers(c) for name, c in worst[victim].items()})
            for victim in craft.victims
        ]

    def _output(self, model: Model, images: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            output = torch.cat([model(part) for part in images.split(self.micro_batch or len(images))])
            return self.task.digest(output, batch)

    def _live(self, records: Sequence[Record]) -> dict[str, float]:
        """The severity of the first trial's plain and robust victims, for the progress line."""
        seen: dict[str, list[float]] = {}
        for record in records:
            for row in record["rows"]:
                if row["threat"] == record["rows"][0]["threat"] and row[self.task.severity] is not None:
                    seen.setdefault(row["victim"], []).append(row[self.task.severity])
        return {victim: sum(values) / len(values) for victim, values in seen.items()}


def _worse(first: Columns, second: Columns, severity: str) -> Columns:
    """Per image, all columns of whichever result is the worse one."""
    keep = torch.as_tensor(first[severity]) <= torch.as_tensor(second[severity])

    def chosen(a: Any, b: Any) -> Tensor | list[list[Any]]:
        if isinstance(a, Tensor):
            return torch.where(keep, a, b)
        return [a[i] if kept else b[i] for i, kept in enumerate(keep.tolist())]

    return {name: chosen(first[name], second[name]) for name in first}


def _plain_numbers(column: Tensor | list[list[Any]]) -> list[Any]:
    """A column as Python values; NaN, which marks what does not apply, becomes None."""
    values = column.tolist() if isinstance(column, Tensor) else column
    return [None if value != value else value for value in values]
