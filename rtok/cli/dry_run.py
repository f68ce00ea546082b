"""`--dry-run`: check all that can be known without computing, and say what the run would do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import cast

from rtok.attacks.stored import AdversarialSet
from rtok.compute import Compute
from rtok.config.rules import USES, unused
from rtok.config.schema import Config
from rtok.config.sections import DataConfig, ModelConfig
from rtok.config.threats import GuessedConfig
from rtok.data import open_source
from rtok.data.transforms import Transform
from rtok.defenses import load_defense, resolve_defenses
from rtok.errors import UserError
from rtok.evaluation.adversarial import RECORD
from rtok.evaluation.extracted import ExtractedDefenses
from rtok.evaluation.plan import Planner
from rtok.evaluation.tasks.features import FeatureTask
from rtok.evaluation.threats import ThreatContext
from rtok.evaluation.trial import Trial
from rtok.evaluation.victims import Victim, control_victims, robust_victims
from rtok.models.backbone import Backbone
from rtok.models.loading import outline_backbone
from rtok.results.words import counted
from rtok.runs.folder import RunFolder
from rtok.setup import Setup
from rtok.training.loop import laid_out, make_trainees
from rtok.version import install

_ROW = 500  # bytes, at most, of one line about an image
_FIXED = 2**21  # bytes of figures and records


class _LabelTask(FeatureTask):
    """A task with labels but without heads, which take time to load and change nothing about the attacks."""

    objective = "labels"  # type: ignore[assignment]
    several_targets = False


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        work: what is computed, in words.
        files: what it leaves in `out`.
        size: the bytes that they need at most, roughly.
    """

    work: list[str]
    files: list[str]
    size: int


def dry_run(config: Config, command: str, *, resume: bool = False, overwrite: bool = False) -> str:
    """Return the sections of the config that the command uses, as YAML, and the plan of the run as its comments.

    Raises:
        UserError: the run could not start.
    """
    record = RECORD if command == "attack" else "config.yaml"
    RunFolder(config.out, config.to_dict(), record=record, resume=resume, overwrite=overwrite)
    if command == "eval-seg" and find_spec("mmseg") is None:
        raise UserError(f"eval-seg needs mmsegmentation: {install('seg')}")
    source = open_source(config.data, seed=config.seed)
    for data in _more_data(config, command):
        open_source(data, seed=config.seed)
    backbone = _outline(config.model)
    setup = Setup(config, cast(Compute, None), source, backbone, Transform(config.data.resize, backbone.image_size))
    plan = _training(setup) if command == "train" else _measuring(setup, command)
    _check_disk(config.out, plan.size)
    need = f"at most about {-(-plan.size // 2**20)} MiB"
    lines = [f"images: {len(source)}", *plan.work, f"files in {config.out}: {', '.join(plan.files)} ({need})"]
    if idle := unused(config, command):
        lines.append(f"{command} does not use {', '.join(idle)}")
    return config.to_yaml(USES[command]) + "".join(f"# {line}\n" for line in lines)


def _outline(model: ModelConfig) -> Backbone:
    return outline_backbone(model.name, weights=model.weights, image_size=model.size, normalization=model.normalization)


def _more_data(config: Config, command: str) -> Iterator[DataConfig]:
    """The images that are read beside `data`."""
    if "head" in USES[command] and config.head is not None and config.head.reads_split:
        yield config.head.images(config.data)
    if "threats" in USES[command] and "guessed" in config.threats and isinstance(config.guessed, GuessedConfig):
        yield config.guessed.images(config.data)


def _training(setup: Setup) -> Plan:
    setup, _ = laid_out(setup)
    settings = setup.config.train
    updates, batch = settings.total_steps, settings.batch_size
    trainees = make_trainees(setup.config, setup.backbone, setup.backbone.mean.device)
    counts = setup.config.attacks[0].counts
    times = 1 if settings.threat == "transfer" else len(trainees)
    steps = (counts["steps"] or 0) * (counts["restarts"] or 1) * times
    work = [
        f"{updates} updates of {counted(len(trainees), 'defense')}, with {batch} images each",
        f"gradient steps of the attack: {steps} per image, {steps * updates * batch:,} in total",
    ]
    numbers = sum(values.numel() for trainee in trainees for values in trainee.defense.parameters().values())
    files = [*(trainee.file_name for trainee in trainees), "metrics.jsonl", "curves.png", "config.yaml", "run.json"]
    rows = updates * len(trainees) * _ROW
    return Plan(work, files, 4 * 4 * numbers + rows + _FIXED)  # the values, and a state with the optimizer's


def _measuring(setup: Setup, command: str) -> Plan:
    """The plan of `attack` and of the evaluations, from the trials that they would run."""
    config, images = setup.config, len(setup.source)
    trials = _trials(setup, command)
    runs = {id(found.run): found.run for trial in trials for found in trial.candidates}
    counts = [run.settings.counts for run in runs.values()]
    steps = sum((count["steps"] or 0) * (count["restarts"] or 1) for count in counts)
    queries = sum(count["queries"] or 0 for count in counts)
    work = [f"gradient steps: {steps} per image, {steps * images:,} in total, in {counted(len(runs), 'attack')}"]
    work += [f"queries: {queries} per image, {queries * images:,} in total"] if queries else []
    fitted = "head" in USES[command] and config.head is not None and config.head.reads_split
    heads = ["heads/"] if fitted else []
    if command == "attack":
        files = [f"images/ ({images})", "manifest.csv", "attack.json", "examples.png", "examples/", *heads]
        return Plan(work, files, images * (3 * prod(setup.backbone.image_size) + _ROW) + _FIXED)
    if config.extracted is not None and "extracted" in config.threats:
        ExtractedDefenses.open(setup)
        victims = {victim for trial in trials if trial.threat == "extracted" for victim in trial.victims}
        work += [f"copies of defenses fitted to answers: {len(victims)}, {config.extracted.steps} steps each"]
    files = ["results.json", *([f"{config.protocol}-*.json"] if config.protocol else []), "per_image.csv"]
    files += ["per_class.csv"] if command == "eval-seg" else []
    files += ["curve.csv"] if config.curve else []
    files += ["*.png", "pictures/" if command == "eval-seg" else "examples/", *heads, "config.yaml", "run.json"]
    rows = images * max(1, sum(len(trial.victims) for trial in trials))
    return Plan(work, files, 2 * rows * _ROW + _FIXED)  # the journal and the table


def _trials(setup: Setup, command: str) -> list[Trial]:
    """What would be crafted, on models without numbers; the files of defenses and stored sets are checked."""
    config, backbone = setup.config, setup.backbone
    labels = command in ("eval-class", "eval-seg") or (command == "attack" and config.head is not None)
    task = _LabelTask() if labels else FeatureTask()
    plain, robust, control = Victim("plain", backbone), list[Victim](), list[Victim]()
    if command != "attack":
        head = config.head if labels else None
        heads = (None,) if head is None else head.robust_victims
        # an outline has no weights to check
        robust = robust_victims(resolve_defenses(config.defense_places), backbone, heads, check_weights=False)
        robust_victims(resolve_defenses(config.guessed_paths), backbone, check_weights=False)
        heads = (None,) if head is None else head.control_victims
        control = control_victims(robust, config.control_draws, backbone, config.seed, heads)
    several = task.several_targets
    context = ThreatContext(config, plain, _surrogate(setup), control, robust, [plain], several_targets=several)
    planner, trials = Planner(setup, task, context), list[Trial]()
    for attack in config.attacks:
        if attack.stored:
            AdversarialSet.open(attack.stored)
        else:
            trials += planner.under("transfer", attack) if command == "attack" else planner.of_attack(attack)
    for radius in config.curve or () if command != "attack" else ():
        trials += planner.of_attack(config.attacks[0].at_radius(radius))
    return trials


def _surrogate(setup: Setup) -> Victim:
    chosen, model = setup.config.surrogate, setup.config.surrogate_model
    backbone = setup.backbone if model == setup.config.model else _outline(model)
    victim = Victim("surrogate", backbone)
    if chosen.defense is None:
        return victim
    defense = load_defense(chosen.defense, backbone.spec.name)
    defense.check(backbone, chosen.defense, weights=False)
    return victim.with_defense(defense)


def _check_disk(out: Path, size: int) -> None:
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"out: {there} cannot be written to: name another folder with --out.")
    free = shutil.disk_usage(there).free
    if free < size:
        needs = f"the run needs about {size / 2**30:.1f} GiB, and {there} has {free / 2**30:.1f} GiB left"
        raise UserError(f"out: {needs}: make room, or name another folder with --out.")
