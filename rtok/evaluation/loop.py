"""The one evaluation loop: data, attacks, threats and victims; features, classification and segmentation plug into it.

Nothing is computed twice: a clean pass serves every attack and threat, one `transfer` image serves every victim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.attacks.base import Context, Crafted, craft
from rtok.attacks.criteria import FeatureCriterion
from rtok.attacks.graphs import Graphs
from rtok.attacks.objective import Criterion, Model, Objective
from rtok.compute import Compute
from rtok.console import progress
from rtok.data.loader import Batch
from rtok.evaluation.schedule import Schedule
from rtok.evaluation.task import Columns, Task, View
from rtok.evaluation.trial import AttackRun, Trial
from rtok.evaluation.victims import Victim
from rtok.results.columns import measure_added
from rtok.results.rows import SEEN
from rtok.runs.journal import Journal

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone

Record = dict[str, Any]


@dataclass(eq=False)
class Evaluator:
    """Runs a task's trials on batches; knows nothing of files.

    Attributes:
        victims: the plain victim first.
        std: the model's per-channel std, for attacks with normalized units.
        surrogate: the model that `transfer` crafts on.
        graphs: captures the passes of attacks; None means that they are run.
        models: each victim as a function from images to the task's output.
    """

    task: Task
    victims: Sequence[Victim]
    trials: Sequence[Trial]
    device: torch.device
    std: Tensor
    seed: int
    surrogate: Backbone | None = None
    graphs: Graphs | None = None

    def __post_init__(self) -> None:
        self.models = {victim: self.task.model(victim) for victim in self.victims}
        self._schedule = Schedule(self.trials)
        runs = [(trial, candidate.run) for trial in self.trials for candidate in trial.candidates]
        self._shared = {run.start for _, run in runs} | {run for trial, run in runs if run not in trial.runs}

    def run(self, batches: Iterable[Batch], journal: Journal, compute: Compute, total: int, done: int) -> None:
        """Evaluate every batch and append one record per image to the journal on the main process."""
        with progress(self.task.command, total=total, unit="image", enabled=compute.is_main, start=done) as bar:
            for batch in batches:
                bar.begin(amount=len(batch) * compute.processes)
                records = compute.gather(self.evaluate(batch))
                if compute.is_main:
                    journal.append(records)
                bar.observe(self._live(records))
                bar.advance(len(records))

    def evaluate(self, batch: Batch) -> list[Record]:
        """One record per image: `{"image", "group", "rows": [...]}` with a row per trial and victim."""
        rows: list[list[dict[str, Any]]] = [[] for _ in batch.keys]
        if batch.keys:
            images = batch.on(self.device)
            clean = {victim: self._output(self.models[victim], images, batch) for victim in self.victims}
            made: dict[AttackRun, Crafted] = {}  # what several trials try or start from
            for trial in self.trials:
                for victim, columns in self._tried(trial, batch, images, clean, made).items():
                    who = {"part": trial.part, **trial.identity(self.seed), **victim.identity()}
                    values = {name: _plain_numbers(column) for name, column in columns.items()}
                    values[SEEN] = _seen(victim, batch)
                    for b, row in enumerate(rows):
                        row.append({**who, **{name: column[b] for name, column in values.items()}})
        return [
            {"image": key, "group": group, "rows": row}
            for key, group, row in zip(batch.keys, batch.groups, rows, strict=True)
        ]

    def craft(
        self,
        run: AttackRun,
        batch: Batch,
        images: Tensor,
        made: dict[AttackRun, Crafted] | None = None,
        clean: Mapping[Victim, Tensor] | None = None,
    ) -> Crafted:
        """What one attack makes of the clean images; `made` keeps what is needed more than once.

        Args:
            clean: outputs on the clean images that are known already.
        """
        made = {} if made is None else made
        if run in made:
            return made[run]
        start = None if run.start is None else self.craft(run.start, batch, images, made, clean).images
        context = Context(batch.keys, seed=self.seed, std=self.std, start=start)
        with self._schedule.at(run):
            found = craft(run.attack, images, self.objective(run, batch, images, clean), context)
        if run in self._shared:
            made[run] = found
        return found

    def objective(
        self, run: AttackRun, batch: Batch, images: Tensor, clean: Mapping[Victim, Tensor] | None = None
    ) -> Objective:
        """What an attack maximizes on these clean images; `clean` as in `craft`."""
        criterion: Criterion
        if run.hidden:
            with torch.no_grad():
                criterion = FeatureCriterion(run.target(images), run.settings.axis, run.settings.features)
        else:
            output = self._known(run.target, run.target_of, images, batch, clean or {})
            criterion = self.task.criterion(run.settings, batch, output)
        return Objective(run.surrogate, criterion, graphs=self.graphs)

    def _tried(
        self, trial: Trial, batch: Batch, images: Tensor, clean: dict[Victim, Tensor], made: dict[AttackRun, Crafted]
    ) -> dict[Victim, Columns]:
        """Per victim the columns of its worst result, per image, over the trial's candidates.

        `worst_from` is the threat which that result belongs to; `WORST_alone`, of the column that decides, is the worst
        value among the trial's own runs. `gradients` and `forwards` are what all candidates together cost.
        """
        worst: dict[Victim, Columns] = {}
        spent: dict[Victim, list[Crafted]] = {}
        model = trial.surrogate_model if self.task.wants_surrogate else None
        decides, surrogate_clean = self.task.worst_by, None
        if model is not None:
            surrogate_clean = self._known(model, trial.surrogate_of, images, batch, clean)
        for threat, run, victims in trial.candidates:
            crafted = self.craft(run, batch, images, made, clean)
            adversarial = crafted.images
            seen = None if model is None else self._output(model, adversarial, batch)
            known = {} if seen is None or trial.surrogate_of is None else {trial.surrogate_of: seen}
            for victim in victims:
                output = self._known(self.models[victim], victim, adversarial, batch, known)
                view = View(
                    batch, images, adversarial, clean[victim], clean[self.victims[0]], output, surrogate_clean, seen
                )
                columns = self.task.measure(view) | measure_added(self.task.command, view)
                columns["worst_from"] = [threat] * len(batch.keys)
                found = _worse(worst[victim], columns, decides) if victim in worst else columns
                alone = found[decides] if threat == trial.threat else worst[victim][f"{decides}_alone"]
                worst[victim] = {**found, f"{decides}_alone": alone}
                spent.setdefault(victim, []).append(crafted)
        return {victim: {**columns, **_cost(spent[victim])} for victim, columns in worst.items()}

    def _known(
        self, model: Model, victim: Victim | None, images: Tensor, batch: Batch, known: Mapping[Victim, Tensor]
    ) -> Tensor:
        """The output of a victim's model: what is known of the same images, else a pass."""
        found = None if victim is None else known.get(victim)
        return self._output(model, images, batch) if found is None else found

    def _output(self, model: Model, images: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self.task.reduce(model(images), batch)

    def _live(self, records: Sequence[Record]) -> dict[str, list[float]]:
        """The numbers of the first trial's plain and robust victims, for the progress line."""
        seen: dict[str, list[float]] = {}
        for record in records:
            for row in record["rows"]:
                if row["threat"] == record["rows"][0]["threat"] and row[self.task.worst_by] is not None:
                    seen.setdefault(row["victim"], []).append(row[self.task.worst_by])
        return seen


def _worse(first: Columns, second: Columns, worst_by: str) -> Columns:
    """Per image, all columns of whichever result is the worse one; of the first where neither is."""
    keep = ~(torch.as_tensor(second[worst_by]) < torch.as_tensor(first[worst_by]))

    def chosen(a: Any, b: Any) -> Tensor | list[Any]:
        if isinstance(a, Tensor):
            return torch.where(keep, a, b)
        return [a[i] if kept else b[i] for i, kept in enumerate(keep.tolist())]

    return {name: chosen(first[name], second[name]) for name in second}


def _cost(spent: Sequence[Crafted]) -> Columns:
    """What several attacks asked their surrogates per image, together."""
    return {name: torch.stack([getattr(one, name) for one in spent]).sum(0) for name in ("gradients", "forwards")}


def _seen(victim: Victim, batch: Batch) -> list[bool | None]:
    """Whether the training of a victim's defense saw each image; None where nothing is known of it."""
    known = None if victim.defense is None or victim.file is None else victim.defense.seen
    return [digest in known if known else None for digest in batch.digests or [""] * len(batch)]


def _plain_numbers(column: Tensor | list[Any]) -> list[Any]:
    """A column as Python values; NaN, which marks what does not apply, becomes None."""
    values = column.tolist() if isinstance(column, Tensor) else column
    return [None if value != value else value for value in values]
