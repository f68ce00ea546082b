"""Train robustness tokens (paper, section 3; the step is DESIGN section 2).

Under the `transfer` threat one stream of adversarial batches serves every token set of the run: the attack never sees
the tokens, and it is nearly all of the cost. Under `adaptive` and `mixed` each set is attacked on its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.attacks import cosine
from rtok.compute import Compute
from rtok.config.defenses import TokensConfig
from rtok.config.rules import checked
from rtok.config.sections import TrainConfig
from rtok.console import progress, say
from rtok.data import ImageSource, open_source
from rtok.data.loader import Batch, training_batches
from rtok.data.transforms import Transform
from rtok.errors import UserError
from rtok.models import load_backbone
from rtok.runs.folder import RunFolder
from rtok.runs.journal import Journal
from rtok.runs.record import RunRecord
from rtok.tokens import RobustnessTokens
from rtok.training.attacker import AttackedBatch, Attacker
from rtok.training.state import TokenSet, digest_of, load_state, save_state
from rtok.version import __version__

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.models.backbone import Backbone

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class TrainResult:
    """Where the tokens lie, and the last step's metrics of every token set."""

    out: Path
    token_files: list[Path]
    last: list[dict[str, Any]]


def train(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = ("rtok", "train"),
) -> TrainResult:
    """Train tokens as `config` says and write the run folder `config.out`.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    tracker = checked(config, "train").tracking
    compute = Compute.start(
        precision=config.precision, compile=config.compile, trackers=tracker, out=config.out
    )
    folder = RunFolder(config.out, config.to_dict(), resume=resume, overwrite=overwrite)
    if config.train.batch_size % compute.processes:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}, which {compute.processes} processes cannot share equally: "
            "choose a multiple."
        )
    source = open_source(config.data, seed=config.seed)
    backbone = load_backbone(
        config.model.name,
        weights=config.model.weights,
        image_size=config.model.image_size,
        normalization=config.model.normalization,
    )
    sets = make_token_sets(config, backbone.dim, compute.device)
    files = [folder.path / s.file_name for s in sets]
    if folder.resuming and folder.finished(*(s.file_name for s in sets)):
        if compute.is_main:
            folder.tidy(keep_state=True)
        say(f"{folder.path} holds a finished run: nothing is left to do", enabled=compute.is_main)
        return TrainResult(folder.path, files, Journal(folder.path / "metrics.jsonl").rows()[-len(sets) :])
    say("; ".join([compute.summary(), *_memory_saved(config.train)]), enabled=compute.is_main)
    if len(sets) > 1 and config.train.threat != "transfer":
        cost = f"each of the {len(sets)} token sets is attacked on its own"
        say(f"train.threat is {config.train.threat}: {cost}", enabled=compute.is_main)
    compute.wait()  # every process has looked at the folder before one writes into it
    if compute.is_main:
        folder.start()
    with folder.running():
        return _train(config, compute, folder, source, backbone, sets, command)


def _train(
    config: Config,
    compute: Compute,
    folder: RunFolder,
    source: ImageSource,
    backbone: Backbone,
    sets: list[TokenSet],
    command: Sequence[str],
) -> TrainResult:
    compute.wait()
    images = digest_of(source.keys)
    done = load_state(folder.state / "train.pt", sets, images) if folder.resuming else 0
    backbone.activation_checkpointing = config.train.activation_checkpointing
    trainer = Trainer(config, compute, folder, compute.prepare(backbone), sets)
    batches = training_batches(
        source,
        Transform(config.data.resize, (backbone.image_size[0], backbone.image_size[1])),
        batch_size=config.train.batch_size,
        start=done,
        steps=config.train.steps,
        seed=config.seed,
        process=compute.process,
        processes=compute.processes,
        workers=config.data.workers,
        on_error=config.data.on_error,
    )
    return trainer.run(batches, done, command, images)


def make_token_sets(config: Config, dim: int, device: torch.device) -> list[TokenSet]:
    """Initialise one token set per count and seed."""
    settings = config.defense
    assert isinstance(settings, TokensConfig)
    counts, seeds = settings.counts, settings.seeds
    optimizer = OPTIMIZERS[config.train.optimizer]
    sets = []
    for count in counts:
        for seed in seeds:
            name = "-".join([str(count)] * (len(counts) > 1) + [f"seed{seed}"] * (len(seeds) > 1))
            tokens = RobustnessTokens.initialise(
                count,
                dim,
                std=settings.init_std,
                seed=seed,
                backbone=config.model.name,
                image_size=config.model.size,
            )
            values = tokens.values.to(device).requires_grad_(True)
            sets.append(TokenSet(name, count, seed, values, optimizer([values], lr=config.train.lr)))
    return sets


class Trainer:
    """The training loop over one run folder."""

    def __init__(
        self, config: Config, compute: Compute, folder: RunFolder, backbone: Backbone, sets: list[TokenSet]
    ) -> None:
        self.config = config
        self.compute = compute
        self.folder = folder
        self.backbone = backbone
        self.sets = sets
        self.attacker = Attacker(config, compute, backbone)
        self.journal = Journal(folder.path / "metrics.jsonl")

    def run(self, batches: Any, done: int, command: Sequence[str], images: str) -> TrainResult:
        """Take the steps that are left and write every file of the run; `images` is what identifies the data."""
        steps, compute, folder = self.config.train.steps, self.compute, self.folder
        record = RunRecord(folder, command, compute.describe())
        if compute.is_main:
            self.journal.keep(lambda row: row["step"] <= done)
            record.write(finished=False)
        if self.config.tracking != "none":
            compute.accelerator.init_trackers("rtok", config=_flat(self.config.to_dict()))
        rows: list[dict[str, Any]] = []
        with progress("train", total=steps, unit="step", enabled=compute.is_main, start=done) as bar:
            for step, batch in enumerate(batches, start=done + 1):
                rows = self.step(step, batch)
                if compute.is_main:
                    self.journal.append(rows)
                    if step % self.config.train.checkpoint_every == 0 or step == steps:
                        save_state(folder.state / "train.pt", step, self.sets, images)
                for row in rows if self.config.tracking != "none" else []:
                    compute.accelerator.log(_tracked(row), step=step)
                bar.advance(
                    1, **{k: rows[-1][k] for k in ("loss", "invariance", "adversarial", "undefended")}
                )
        skipped = sorted(set(compute.gather(list(batches.skipped))))
        files = [folder.path / s.file_name for s in self.sets]
        if compute.is_main:
            self._finish(files, record, skipped)
        compute.accelerator.end_training()
        return TrainResult(folder.path, files, rows)

    def step(self, step: int, batch: Batch) -> list[dict[str, Any]]:
        """Attack one batch and update every token set with it; one row of metrics per set."""
        begin = time.perf_counter()
        shared = self.attacker.on_plain(step, batch)
        shared_seconds = time.perf_counter() - begin
        rows = []
        for s in self.sets:
            begin = time.perf_counter()
            attacked = self.attacker.through(s.values, shared)
            lr = self.warm_up(s, step)
            values = self.compute.mean(torch.stack([*self.update(s, attacked), *_about(attacked)])).tolist()
            invariance, adversarial, undefended, image_mse = values
            row: dict[str, Any] = {"step": step}
            if s.name:
                row |= {"count": s.count, "seed": s.seed}
            row |= {
                "loss": -(invariance + adversarial),
                "invariance": invariance,
                "adversarial": adversarial,
                "undefended": undefended,
                "image_mse": image_mse,
                "lr": lr,
                "seconds": round(shared_seconds + time.perf_counter() - begin, 4),
            }
            rows.append(row)
        return rows

    def update(self, s: TokenSet, batch: AttackedBatch) -> tuple[Tensor, Tensor]:
        """Maximise invariance + adversarial similarity over the tokens alone; returns both means over the batch."""
        B, axis = batch.clean.shape[0], self.config.train.axis
        s.optimizer.zero_grad(set_to_none=True)
        invariance, adversarial = [], []
        for part in self.parts(B):
            images = torch.cat([batch.clean[part], batch.adversarial[part]])  # one forward for both terms
            clean, attacked = self.backbone(images, s.values).chunk(2)
            similarity = cosine(clean, batch.target[part], axis), cosine(attacked, batch.target[part], axis)
            (-(similarity[0] + similarity[1]).sum() / B).backward()
            invariance.append(similarity[0].detach())
            adversarial.append(similarity[1].detach())
        assert s.values.grad is not None
        s.values.grad = self.compute.mean(s.values.grad)
        s.optimizer.step()
        return torch.cat(invariance).mean(), torch.cat(adversarial).mean()

    def parts(self, size: int) -> Iterator[slice]:
        """Cut a batch into micro-batches."""
        micro_batch = self.config.train.micro_batch or size
        return (slice(i, min(size, i + micro_batch)) for i in range(0, size, micro_batch))

    def warm_up(self, s: TokenSet, step: int) -> float:
        """Set and return this step's learning rate: linear over `warmup_steps`, then constant."""
        settings = self.config.train
        lr = settings.lr * min(1.0, step / max(1, settings.warmup_steps))
        for group in s.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _finish(self, files: Sequence[Path], record: RunRecord, skipped: Sequence[str]) -> None:
        from rtok.reporting.figures.curves import training_curves

        fingerprint = self.backbone.fingerprint()
        for s, path in zip(self.sets, files, strict=True):
            RobustnessTokens(
                values=s.values.detach().cpu(),
                backbone=self.config.model.name,
                image_size=self.config.model.size,
                config={**self.config.to_dict(), "token_count": s.count, "token_seed": s.seed},
                version=__version__,
                fingerprint=fingerprint,
            ).save(path)
        training_curves(self.journal.rows(), self.folder.path / "curves.png")
        record.write(finished=True, skipped=list(skipped))
        if skipped:
            say(f"skipped {len(skipped)} files that cannot be decoded (named in run.json)")


def _memory_saved(train: TrainConfig) -> Iterator[str]:
    """What a run does for less memory, for the line at its start."""
    if train.micro_batch is not None:
        yield f"{train.micro_batch} images at a time for less memory, same result"
    if train.activation_checkpointing:
        yield "activations computed again for less memory, a third slower"


def _about(batch: AttackedBatch) -> tuple[Tensor, Tensor]:
    return batch.undefended.mean(), (batch.adversarial - batch.clean).square().mean()


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    from rtok.runs.folder import flatten

    kept = (int, float, str, bool)  # what every tracker takes
    return {key: value if isinstance(value, kept) else str(value) for key, value in flatten(settings).items()}


def _tracked(row: dict[str, Any]) -> dict[str, float]:
    suffix = f"/{row['count']}-seed{row['seed']}" if "count" in row else ""
    return {f"{key}{suffix}": value for key, value in row.items() if key not in ("step", "count", "seed")}
