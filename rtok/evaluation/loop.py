"""The one evaluation loop: data, attacks, threats and victims; features, classification and segmentation plug into it.

Nothing is computed twice: a clean pass serves every attack and threat, one `transfer` image serves every victim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.attacks.base import Attack, Context, craft
from rtok.attacks.objective import Criterion, FeatureCriterion, Model, Objective, Surrogate
from rtok.compute import Compute
from rtok.console import progress
from rtok.data.loader import Batch
from rtok.evaluation.task import Columns, Task, View
from rtok.evaluation.victims import Victim
from rtok.runs.journal import Journal

if TYPE_CHECKING:
    from rtok.config.attack import AttackConfig

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Attempt:
    """One run of an attack: its settings, its algorithm, the model it is crafted on, and what it pulls away from.

    Attributes:
        hidden: the surrogate and the target give the features of a block inside the backbone, not the task's output.
        start: an attempt on the public model whose result this one starts from, and which counts as a result too.
    """

    settings: AttackConfig
    attack: Attack
    surrogate: Surrogate
    target: Model
    hidden: bool = False
    start: Attempt | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """An attack under a threat, and the victims it is tried on: a row of the results for each victim.

    Attributes:
        part: the part of `results.json` that its rows belong to: `rows` or `curve`.
        threat, surrogate: what the attacker has, and the model they craft on, in words.
        attempts: what the attacker tries; per image and victim the worst result counts.
        probe: the model whose success tells whether an image fooled its surrogate; None where that is not one model.
        eps_pixel: the radius in pixels of [0, 1]; for normalized units the mean over the channels.
        start: what a `query` attack starts from; None for other threats.
    """

    name: str
    settings: AttackConfig
    threat: str
    surrogate: str
    attempts: Sequence[Attempt]
    victims: Sequence[Victim]
    probe: Model | None
    eps_pixel: float
    part: str = "rows"
    start: str | None = None

    def identity(self, seed: int) -> dict[str, Any]:
        """The columns that say how a row's adversarial images were made."""
        return {
            "attack": self.name,
            "threat": self.threat,
            "surrogate": self.surrogate,
            "norm": self.settings.norm,
            "eps": self.settings.eps,
            "units": self.settings.units,
            "eps_pixel": self.eps_pixel,
            **self.settings.counts,
            "start": self.start,
            "seed": seed,
        }


class Evaluator:
    """Runs a task's trials on batches; knows nothing of files.

    Args:
        victims: the plain victim first.
        std: the model's per-channel std, for attacks with normalized units.
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
    ) -> None:
        self.task = task
        self.victims = victims
        self.trials = trials
        self.device = device
        self.std = std
        self.seed = seed
        self.models = {victim: task.model(victim) for victim in victims}
        self._starts = {attempt.start for trial in trials for attempt in trial.attempts}

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
        """One record per image: `{"image", "group", "rows": [...]}` with a row per trial and victim."""
        rows: list[list[dict[str, Any]]] = [[] for _ in batch.keys]
        if batch.keys:
            images = batch.images.to(self.device, non_blocking=True)
            clean = {victim: self._output(self.models[victim], images, batch) for victim in self.victims}
            made: dict[Attempt, Tensor] = {}  # what later attempts start from
            for trial in self.trials:
                for victim, columns in self._tried(trial, batch, images, clean, made).items():
                    who = {"part": trial.part, **trial.identity(self.seed), **victim.identity()}
                    values = {name: _plain_numbers(column) for name, column in columns.items()}
                    for b, row in enumerate(rows):
                        row.append({**who, **{name: column[b] for name, column in values.items()}})
        return [
            {"image": key, "group": group, "rows": row}
            for key, group, row in zip(batch.keys, batch.groups, rows, strict=True)
        ]

    def craft(
        self, attempt: Attempt, batch: Batch, images: Tensor, made: dict[Attempt, Tensor] | None = None
    ) -> Tensor:
        """Adversarial images (b, 3, H, W) of one attempt; `made` keeps those that several attempts start from."""
        made = {} if made is None else made
        if attempt in made:
            return made[attempt]
        start = None if attempt.start is None else self.craft(attempt.start, batch, images, made)
        objective = self.objective(attempt, batch, images)
        context = Context(batch.keys, self.seed, std=self.std, start=start)
        found = craft(attempt.attack, images, objective, context)
        if attempt in self._starts:
            made[attempt] = found.images
        return found.images

    def severity(self, victim: Victim, batch: Batch, images: Tensor, adversarial: Tensor) -> float:
        """The mean severity of adversarial images (b, 3, H, W) for a victim; NaN where there is nothing to measure."""
        model = self.models[victim]
        clean, attacked = (self._output(model, x, batch) for x in (images, adversarial))
        plain = self._output(self.models[self.victims[0]], images, batch)
        probed = (clean, attacked) if self.task.wants_probe else (None, None)
        columns = self.task.measure(View(batch, images, adversarial, clean, plain, attacked, *probed))
        return float(torch.as_tensor(columns[self.task.severity]).nanmean())

    def objective(self, attempt: Attempt, batch: Batch, images: Tensor) -> Objective:
        """What an attempt maximises on these clean images."""
        criterion: Criterion
        if attempt.hidden:
            with torch.no_grad():
                criterion = FeatureCriterion(attempt.target(images), attempt.settings.axis)
        else:
            output = self._output(attempt.target, images, batch)
            criterion = self.task.criterion(attempt.settings, batch, output)
        return Objective(attempt.surrogate, criterion)

    def _tried(
        self,
        trial: Trial,
        batch: Batch,
        images: Tensor,
        clean: dict[Victim, Tensor],
        made: dict[Attempt, Tensor],
    ) -> dict[Victim, Columns]:
        """Per victim the columns of its worst result, per image, over the trial's attempts."""
        worst: dict[Victim, Columns] = {}
        for adversarial in self._candidates(trial, batch, images, made):
            probe = trial.probe if self.task.wants_probe else None
            probed = [self._output(probe, x, batch) for x in (images, adversarial)] if probe else [None, None]
            for victim in trial.victims:
                output = self._output(self.models[victim], adversarial, batch)
                view = View(
                    batch, images, adversarial, clean[victim], clean[self.victims[0]], output, *probed
                )
                columns = self.task.measure(view)
                worst[victim] = (
                    _worse(worst[victim], columns, self.task.severity) if victim in worst else columns
                )
        return worst

    def _candidates(
        self, trial: Trial, batch: Batch, images: Tensor, made: dict[Attempt, Tensor]
    ) -> Iterator[Tensor]:
        """Every attempt's images, and once each what attempts start from: whoever goes on from there has it."""
        seen: set[Attempt] = set(trial.attempts)
        for attempt in trial.attempts:
            if attempt.start is not None and attempt.start not in seen:
                seen.add(attempt.start)
                yield self.craft(attempt.start, batch, images, made)
            yield self.craft(attempt, batch, images, made)

    def _output(self, model: Model, images: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self.task.digest(model(images), batch)

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
