"""`rtok attack`: craft adversarial images once and keep them, for any number of evaluations."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rtok.attacks.stored import (
    MANIFEST,
    AdversarialSet,
    file_name,
    load_image,
    manifest_row,
    save_image,
)
from rtok.compute import Compute
from rtok.console import progress, say
from rtok.errors import UserError
from rtok.evaluation.bench import Bench
from rtok.evaluation.classification import ClassificationTask
from rtok.evaluation.features import FeatureTask
from rtok.evaluation.loop import Evaluator, Trial
from rtok.evaluation.plan import Planner, open_surrogate
from rtok.evaluation.results import to_csv
from rtok.evaluation.run import finished_images, require_all
from rtok.evaluation.segmentation.run import open_framing, open_task
from rtok.evaluation.task import Task
from rtok.evaluation.victims import Victim
from rtok.files import write_atomic
from rtok.runs.folder import RunFolder
from rtok.runs.journal import Journal
from rtok.runs.record import RunRecord

if TYPE_CHECKING:
    from rtok.config.schema import Config

EXAMPLES = 4  # images in examples.png


@dataclass(frozen=True)
class AttackResult:
    """Where the set lies, how many images it holds, and how far they moved."""

    out: Path
    images: int
    mean_linf_255: float
    max_linf_255: float


def make_adversarial_set(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = ("rtok", "attack"),
) -> AttackResult:
    """Craft one adversarial image per image of the data on the config's surrogate, and write the set.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    attack = config.attacks[0]
    if len(config.attacks) > 1 or attack.stored or attack.members != [attack]:
        raise UserError(
            "attack: `rtok attack` crafts one set; give one attack, with its options or a preset."
        )
    if attack.quantize == "none":
        raise UserError("attack.quantize is none, but a set is kept as 8-bit files: choose round or floor.")
    compute = Compute.start(precision=config.precision, compile=config.compile)
    folder = RunFolder(config.out, config.to_dict(), record="attack.json", resume=resume, overwrite=overwrite)
    if folder.resuming and folder.finished("manifest.csv"):
        if compute.is_main:
            folder.tidy(keep_state=False)
        say(f"{folder.path} holds a finished set: nothing is left to do", enabled=compute.is_main)
        return _result(folder.path, AdversarialSet.open(folder.path).rows.values())
    bench = Bench.prepare(config, compute, open_framing(config) if _segments(config) else None)
    task = choose_task(bench)
    plain = Victim("plain", head=task.plain_head)
    planner = Planner(bench, task, open_surrogate(bench), plain)
    (trial,) = planner.crafted("transfer", attack)
    evaluator = Evaluator(
        task, [plain], [trial], device=compute.device, std=bench.backbone.std, seed=config.seed
    )
    say(compute.summary(), enabled=compute.is_main)
    compute.wait()
    if compute.is_main:
        folder.start()
    with folder.running():
        return _craft(bench, evaluator, trial, folder, command)


def choose_task(bench: Bench) -> Task:
    """What the images are pulled away from: with a head their labels, without one their features."""
    if bench.config.head is None:
        return FeatureTask(bench.backbone)
    return open_task(bench) if _segments(bench.config) else ClassificationTask.open(bench)


def _segments(config: Config) -> bool:
    return config.head is not None and config.head.type == "mmseg"


def _craft(
    bench: Bench, evaluator: Evaluator, trial: Trial, folder: RunFolder, command: Sequence[str]
) -> AttackResult:
    compute, source = bench.compute, bench.source
    journal = Journal(folder.state / "manifest.jsonl")
    record = RunRecord(folder, command, compute.describe())
    if compute.is_main:
        (folder.path / "images").mkdir(exist_ok=True)
        journal.keep(lambda row: (folder.path / row["file"]).exists())  # mends a torn line, too
        record.write(finished=False)
    compute.wait()
    done = finished_images(journal, source)
    evaluator.task.prepare(folder)
    batches = bench.batches(done=done)
    with progress("attack", total=len(source), unit="image", enabled=compute.is_main, start=len(done)) as bar:
        for batch in batches:
            rows: list[dict[str, Any]] = []
            if batch.keys:
                images = batch.images.to(compute.device)
                adversarial = evaluator.craft(trial.attempts[0], batch, images)
                for key, group, clean, found in zip(
                    batch.keys, batch.groups, images, adversarial, strict=True
                ):
                    save_image(found, folder.path / "images" / file_name(key))
                    rows.append(manifest_row(key, group, clean, found))
            rows = compute.gather(rows)
            if compute.is_main:
                journal.append(rows)
            bar.advance(len(rows), linf_255=max((row["linf_255"] for row in rows), default=0.0))
    skipped = sorted(set(compute.gather(list(batches.skipped))))
    place = {key: i for i, key in enumerate(source.keys)}
    rows = sorted(journal.rows(), key=lambda row: place[row["image"]]) if compute.is_main else []
    if compute.is_main:
        there = sum((folder.path / row["file"]).exists() for row in rows)
        require_all(journal.path, found=there, wanted=len(source) - len(skipped))
        _finish(bench, evaluator, folder, record, rows, skipped)
    compute.wait()
    return _result(folder.path, rows)


def _result(out: Path, rows: Collection[Mapping[str, Any]]) -> AttackResult:
    moved = [float(row["linf_255"]) for row in rows] or [0.0]
    return AttackResult(out, len(rows), sum(moved) / len(moved), max(moved))


def _finish(
    bench: Bench,
    evaluator: Evaluator,
    folder: RunFolder,
    record: RunRecord,
    rows: list[dict[str, Any]],
    skipped: list[str],
) -> None:
    """Write the manifest, the figure and, last, `attack.json`, which says what the set was made for."""
    (trial,) = evaluator.trials
    write_atomic(folder.path / "manifest.csv", to_csv(rows, MANIFEST))
    _draw_examples(bench, folder, rows[:EXAMPLES])
    record.write(
        finished=True,
        attack=trial.settings.model_dump(mode="json"),
        name=trial.name,
        objective=evaluator.task.objective,
        surrogate=trial.surrogate,
        backbone=bench.backbone.spec.name,
        fingerprint=bench.backbone.fingerprint(),
        image_size=list(bench.backbone.image_size),
        images=len(rows),
        skipped=skipped,
    )
    shutil.rmtree(folder.state)
    if skipped:
        say(f"skipped {len(skipped)} files that cannot be decoded (named in attack.json)")


def _draw_examples(bench: Bench, folder: RunFolder, rows: list[dict[str, Any]]) -> None:
    from rtok.reporting.figures.examples import adversarial_examples

    files = {row["image"]: row["file"] for row in rows}
    batch = bench.examples(files)
    if batch is not None:
        found = torch.stack([load_image(folder.path / files[key]) for key in batch.keys])
        adversarial_examples(batch.images, found, folder.path / "examples.png", list(batch.keys))
