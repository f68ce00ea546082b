"""Train a defense: PGD makes adversarial images, then one optimizer step pulls the defended features back.

The step is the paper's (section 3): maximize cos(f(x, r), f(x)) + cos(f(x_adv, r), f(x)) over the defense r alone.
Under the `transfer` threat one stream of adversarial batches serves every defense of the run: the attack never sees
them, and it is nearly all of the cost. Under `adaptive` and `mixed` each is attacked on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from typing_extensions import Unpack

from rtok.compute import Compute
from rtok.config.defenses import DEFENSES, DefenseConfig
from rtok.config.rules import checked
from rtok.console import progress, say
from rtok.data.loader import training_batches
from rtok.data.subset import hold_out_few
from rtok.data.transforms import Transform
from rtok.defenses import Defense, load_defense
from rtok.errors import UserError
from rtok.runs.inputs import inputs_of
from rtok.runs.journal import Journal
from rtok.runs.run import Run, RunOptions
from rtok.runs.tracking import Tracking
from rtok.setup import Given, Setup
from rtok.training.state import Trainee, load_state, save_state
from rtok.training.step import Trainer
from rtok.training.validation import Validator
from rtok.version import __version__

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.config.training import TrainConfig
    from rtok.data.source import ImageSource
    from rtok.models.backbone import Backbone

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
METRICS = "metrics.jsonl"
SEEN = "seen.jsonl"  # of `state`: the digests of the images of every step; a step that is taken again adds the same
# What the progress line shows of a step, under which names.
SHOWN = {key: key for key in ("loss", "invariance", "adversarial", "undefended")}
SHOWN |= {"cosine_to_plain": "held-out white-box", "fidelity": "held-out clean"}


@dataclass(frozen=True)
class TrainResult:
    """Where the defenses lie, and the last step's metrics of each."""

    out: Path
    files: list[Path]
    last: list[dict[str, Any]]

    @property
    def defenses(self) -> list[Defense]:
        """The trained defenses, in the order of their files."""
        return [load_defense(file) for file in self.files]


def train(config: Config, given: Given | None = None, **options: Unpack[RunOptions]) -> TrainResult:
    """Train the defense that `config` describes and write the run folder `config.out`.

    Args:
        given: what is in memory already, in place of what the config names.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    checked(config, "train")
    compute = Compute.start(
        precision=config.precision, compile=config.compile, tracking=config.tracking, out=config.out
    )
    with Run.open(config, compute, journal=METRICS, keep_state=True, **options) as run:
        if run.folder.longer and config.train.is_laid_out:
            raise UserError(
                f"{run.path} cannot be trained for more steps: its train.lr_schedule or train.eps_schedule is laid out "
                "over all of them, so the steps that it has taken would be others. Train again, in another folder."
            )
        if config.train.batch_size % compute.processes:
            raise UserError(
                f"train.batch_size is {config.train.batch_size}, which {compute.processes} processes cannot share "
                "equally: choose a multiple."
            )
        setup = Setup.open(config, compute, given=given)
        setup.backbone.activation_checkpointing = config.train.activation_checkpointing
        inputs, keys = inputs_of(setup), setup.source.keys
        setup, validator = divided(setup)
        config = setup.config
        trainees = make_trainees(config, setup.backbone, compute.device)
        files = [run.path / t.file_name for t in trainees]
        if run.finished(*(file.name for file in files)):
            return TrainResult(run.path, files, run.journal.rows()[-len(trainees) :])
        done = load_state(run.state / "train.pt", trainees) if run.resuming else 0
        about = _about(config.train, trainees)
        run.start(inputs, keys, *about, wanted=lambda row: row["step"] <= done)
        tracking = Tracking(config, compute)
        tracking.start()
        rows, skipped = _steps(setup, run, trainees, done, validator, tracking)
        if compute.is_main:
            _write(config, setup.backbone, trainees, files, run)
        tracking.log_figures(run.path)
        run.finish(skipped=skipped)
        tracking.finish()
        return TrainResult(run.path, files, rows)


def make_trainees(config: Config, backbone: Backbone, device: torch.device) -> list[Trainee]:
    """Draw one untrained defense for each variant of its section (tokens: each count) and seed."""
    section = config.defense
    assert isinstance(section, DefenseConfig)
    kind = DEFENSES.find(section.kind).load()
    variants, seeds = section.variants(), section.seeds
    trainees = []
    for variant, seed in product(variants, seeds):
        defense = kind.create(variant, backbone, seed).to(device)
        leaves = [values.requires_grad_(True) for values in defense.parameters().values()]
        name = "-".join([str(defense.count)] * (len(variants) > 1) + [f"seed{seed}"] * (len(seeds) > 1))
        settings, decay = config.train, config.train.weight_decay
        own = {} if decay is None else {"weight_decay": decay}
        optimizer = OPTIMIZERS[settings.optimizer](leaves, lr=settings.lr, **own)
        trainee = Trainee(name, defense.count, seed, defense, optimizer)
        if settings.ema:
            trainee.average = {key: values.detach().clone() for key, values in defense.parameters().items()}
        trainees.append(trainee)
    return trainees


def divided(setup: Setup) -> tuple[Setup, Validator | None]:
    """Return the setup of the steps, and the validation.

    Raises:
        UserError: too few images are left.
    """
    setup, held = laid_out(setup)
    validation = setup.config.train.validation
    return setup, Validator(setup, held, validation) if held and validation else None


def laid_out(setup: Setup) -> tuple[Setup, ImageSource | None]:
    """Return what to train on, how images are changed, and how long; and the images that are held out.

    Raises:
        UserError: too few images are left.
    """
    config, settings, source = setup.config, setup.config.train, setup.source
    held = None
    if settings.validation:
        source, held = hold_out_few(source, settings.validation.images)
    config = config.model_copy(update={"train": settings.over(len(source))})
    transform = Transform(config.data.resize, setup.backbone.image_size, flip=settings.flip)
    return replace(setup, config=config, source=source, transform=transform), held


def _steps(
    setup: Setup, run: Run, trainees: list[Trainee], done: int, validator: Validator | None, tracking: Tracking
) -> tuple[list[dict[str, Any]], list[str]]:
    """Take the steps after `done`; return the last step's rows, and the files that could not be decoded."""
    config, compute = setup.config, setup.compute
    trainer = Trainer(config, compute, setup.backbone, trainees)
    steps = config.train.total_steps
    batches = training_batches(
        setup.source,
        setup.transform,
        batch_size=config.train.batch_size,
        start=done,
        steps=steps,
        seed=config.seed,
        process=compute.process,
        processes=compute.processes,
        workers=config.data.worker_count,
        on_error=config.data.on_error,
    )
    seen, rows = Journal(run.state / SEEN), list[dict[str, Any]]()
    chosen_on = compute.gather([digest for batch in validator.batches for digest in batch.digests] if validator else [])
    if compute.is_main and not done:
        seen.append([{"step": 0, "images": chosen_on}])
    with progress("train", total=steps, unit="step", enabled=compute.is_main, start=done) as bar:
        for step, batch in enumerate(batches, start=done + 1):
            rows = trainer.step(step, batch)
            if validator:
                validator.add(step, rows, trainees)
            digests = compute.gather(list(batch.digests))
            if compute.is_main:
                seen.append([{"step": step, "images": digests}])
                run.journal.append(rows)
                if step % config.train.checkpoint_every == 0 or step == steps:
                    save_state(run.state / "train.pt", step, trainees)
            for row in rows:
                tracking.log(_tracked(row), step)
            bar.advance(1, **{name: rows[-1][key] for key, name in SHOWN.items() if key in rows[-1]})
    skipped = [*batches.skipped, *(validator.skipped if validator else ())]
    return rows, sorted(set(compute.gather(skipped)))


def _write(config: Config, backbone: Backbone, trainees: list[Trainee], files: list[Path], run: Run) -> None:
    """Write the trained defenses and the training's curves."""
    from rtok.reporting.figures.curves import training_curves

    fingerprint = backbone.fingerprint()
    seen = frozenset(digest for row in Journal(run.state / SEEN).rows() for digest in row["images"])
    for t, file in zip(trainees, files, strict=True):
        trained = {**config.to_dict(), "token_count": t.count, "token_seed": t.seed}
        if t.best:
            found = {"step": t.best.step, "cosine_to_plain": t.best.cosine_to_plain, "fidelity": t.best.fidelity}
            trained["validated"] = found
            say(
                f"{file.name}: the state after step {t.best.step}, the best in validation (cosine to plain "
                f"{t.best.cosine_to_plain:.3f} white-box, {t.best.fidelity:.3f} clean)"
            )
        replace(t.kept, config=trained, version=__version__, fingerprint=fingerprint, seen=seen).save(file)
    training_curves(Journal(run.path / METRICS).rows(), run.path / "curves.png")


def _about(settings: TrainConfig, trainees: list[Trainee]) -> Iterator[str]:
    """What a run does for less memory, and what costs it more, for the line at its start."""
    if settings.micro_batch is not None:
        yield f"{settings.micro_batch} images at a time for less memory, same result"
    if settings.activation_checkpointing:
        yield "activations computed again for less memory, a third slower"
    if len(trainees) > 1 and settings.threat != "transfer":
        yield f"train.threat is {settings.threat}: each of the {len(trainees)} token sets is attacked on its own"


def _tracked(row: dict[str, Any]) -> dict[str, float]:
    suffix = f"/{row['count']}-seed{row['seed']}" if "count" in row else ""
    return {f"{key}{suffix}": value for key, value in row.items() if key not in ("step", "count", "seed")}
