"""`rtok attack`: craft adversarial images once and keep them, for any number of evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from typing_extensions import Unpack

from rtok.attacks.graphs import graphs_for
from rtok.attacks.stored import MANIFEST, AdversarialSet, SetWriter, load_image
from rtok.compute import Compute
from rtok.config.rules import checked
from rtok.console import progress
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.plan import Planner, open_surrogate
from rtok.evaluation.run import require_all
from rtok.evaluation.task import Task
from rtok.evaluation.tasks.classification import ClassificationTask
from rtok.evaluation.tasks.features import FeatureTask
from rtok.evaluation.tasks.segmentation.run import open_framing, open_task
from rtok.evaluation.threats import ThreatContext
from rtok.evaluation.trial import Trial
from rtok.evaluation.victims import Victim
from rtok.results.summary import write_csv
from rtok.runs.inputs import inputs_of
from rtok.runs.run import Run, RunOptions
from rtok.setup import Setup

if TYPE_CHECKING:
    from rtok.config.schema import Config

EXAMPLES = 4  # images in examples.png
RECORD = "attack.json"


@dataclass(frozen=True)
class AttackResult:
    """Where the set lies, how many images it holds, and how far they moved."""

    out: Path
    images: int
    mean_linf_255: float
    max_linf_255: float


def make_adversarial_set(config: Config, **options: Unpack[RunOptions]) -> AttackResult:
    """Craft one adversarial image per image of the data on the config's surrogate, and write the set.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    checked(config, "attack")
    compute = Compute.start(precision=config.precision, compile=config.compile)
    with Run.open(config, compute, record=RECORD, journal="state/manifest.jsonl", **options) as run:
        if run.finished("manifest.csv"):
            return _result(run.path, AdversarialSet.open(run.path).rows.values())
        setup = Setup.open(config, compute, open_framing(config) if _segments(config) else None)
        task = choose_task(setup)
        plain = Victim("plain", setup.backbone, head=task.plain_head)
        name, surrogate = open_surrogate(setup, plain)
        planner = Planner(setup, task, ThreatContext(config, plain, surrogate, surrogate_name=name))
        (trial,) = planner.under("transfer", config.attacks[0])
        std, graphs = setup.backbone.std, graphs_for(compute)
        evaluator = Evaluator(task, [plain], [trial], compute.device, std=std, seed=config.seed, graphs=graphs)
        inputs = inputs_of(setup, surrogate=surrogate.features.backbone, split=task.split)
        run.start(inputs, setup.source.keys, wanted=lambda row: (run.path / row["file"]).exists())
        return _craft(setup, evaluator, trial, run)


def choose_task(setup: Setup) -> Task:
    """What the images are pulled away from: with a head their labels, without one their features."""
    if setup.config.head is None:
        return FeatureTask()
    return open_task(setup) if _segments(setup.config) else ClassificationTask.open(setup)


def _segments(config: Config) -> bool:
    return config.head is not None and config.head.type == "mmseg"


def _craft(setup: Setup, evaluator: Evaluator, trial: Trial, run: Run) -> AttackResult:
    compute, source = setup.compute, setup.source
    done = {row["image"] for row in run.journal}
    evaluator.task.prepare(run)
    batches = setup.batches(done=done)
    with (
        SetWriter(run.path, source.keys) as writer,
        progress("attack", total=len(source), unit="image", enabled=compute.is_main, start=len(done)) as bar,
    ):
        for batch in batches:
            bar.begin(amount=len(batch) * compute.processes)
            rows: list[dict[str, Any]] = []
            if batch.keys:
                images = batch.on(compute.device)
                made = evaluator.craft(trial.runs[0], batch, images)
                rows = writer.write(batch.keys, batch.groups, images, made)
            rows = compute.gather(rows)
            if compute.is_main:
                run.journal.append(rows)
            bar.advance(len(rows), linf_255=max((row["linf_255"] for row in rows), default=0.0))
    skipped = sorted(set(compute.gather(list(batches.skipped))))
    lines = run.journal.ordered(source.keys) if compute.is_main else ()
    if compute.is_main:
        there = sum((run.path / row["file"]).exists() for row in lines)
        require_all(run.journal, found=there, wanted=len(source) - len(skipped))
        write_csv(run.path / "manifest.csv", lines, MANIFEST)
        _draw_examples(setup, run, list(islice(lines, EXAMPLES)))
    result = _result(run.path, lines)  # before the journal is removed
    # The record comes last: it says what the set was made for, and that it is whole.
    run.finish(
        skipped=skipped,
        attack=trial.settings.model_dump(mode="json"),
        name=trial.name,
        objective=evaluator.task.objective,
        surrogate=trial.surrogate,
        backbone=setup.backbone.spec.name,
        fingerprint=setup.backbone.fingerprint(),
        image_size=list(setup.backbone.image_size),
        images=len(lines),
    )
    return result


def _result(out: Path, rows: Iterable[Mapping[str, Any]]) -> AttackResult:
    moved = [float(row["linf_255"]) for row in rows]
    return AttackResult(out, len(moved), sum(moved) / max(len(moved), 1), max(moved, default=0.0))


def _draw_examples(setup: Setup, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    from rtok.reporting.figures.examples import adversarial_examples
    from rtok.reporting.figures.pieces import write_pieces

    files = {row["image"]: row["file"] for row in rows}
    batch = setup.examples(files)
    if batch is not None:
        found = torch.stack([load_image(run.path / files[key]) for key in batch.keys])
        adversarial_examples(batch.images, found, run.path / "examples.png", list(batch.keys))
        write_pieces(batch.images, found, run.path, list(batch.keys))
