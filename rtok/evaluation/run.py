"""One evaluation from its config to the files in its run folder; every eval command goes through `run_evaluation`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.attacks.adversarial_set import AdversarialSet
from rtok.attacks.build import build_attack
from rtok.compute import Compute
from rtok.config.attack import AttackConfig
from rtok.data import open_source
from rtok.data.framing import Framing
from rtok.data.loader import Batch, Batches, evaluation_batches
from rtok.data.source import ImageSource
from rtok.data.transforms import ImageTransform, Transform
from rtok.errors import UserError
from rtok.evaluation import threats
from rtok.evaluation.loop import Evaluator, Trial
from rtok.evaluation.results import flat_rows, summarise, to_csv
from rtok.evaluation.task import Task
from rtok.evaluation.victims import Victim, control_victims, robust_victims
from rtok.journal import Journal
from rtok.models import load_backbone
from rtok.records import RunRecord
from rtok.reporting.console import say
from rtok.runs import RunFolder, read_json, write_atomic, write_json
from rtok.tokens import RobustnessTokens, token_files

if TYPE_CHECKING:
    from rtok.attacks.objective import Model
    from rtok.config.schema import Config
    from rtok.config.sections import ModelConfig
    from rtok.models.backbone import Backbone


@dataclass(frozen=True)
class Bench:
    """What every evaluation needs, loaded and checked before anything is written."""

    config: Config
    compute: Compute
    source: ImageSource
    backbone: Backbone
    transform: ImageTransform

    @classmethod
    def prepare(cls, config: Config, compute: Compute, framing: Framing | None = None) -> Bench:
        """Open the data and load the backbone onto the device; a framing takes the place of `data.resize`."""
        source = open_source(config.data, seed=config.seed)
        backbone = open_backbone(config.model, compute)
        transform = framing or Transform(config.data.resize, backbone.image_size)
        return cls(config, compute, source, backbone, transform)

    @property
    def sizes_differ(self) -> bool:
        """Whether images keep their own shapes: then a process takes one at a time, whatever `batch_size` is."""
        return isinstance(self.transform, Framing) and self.transform.mode == "slide"

    def batches(self, source: ImageSource | None = None, *, done: Collection[str] = ()) -> Batches:
        """This process's share of every image (of the data, or another source) that is not done yet."""
        data = self.config.data
        return evaluation_batches(
            source or self.source,
            self.transform,
            batch_size=self.compute.processes if self.sizes_differ else self.config.batch_size,
            seed=self.config.seed,
            process=self.compute.process,
            processes=self.compute.processes,
            workers=data.workers,
            on_error=data.on_error,
            skip=done,
        )

    def examples(self, keys: Collection[str]) -> Batch | None:
        """These images as one batch for figures (where sizes differ, the first); None when there are none."""
        others = set(self.source.keys).difference(keys)
        batches = evaluation_batches(
            self.source,
            self.transform,
            batch_size=1 if self.sizes_differ else max(1, len(keys)),
            seed=self.config.seed,
            on_error="skip",
            skip=others,
        )
        batch = next(iter(batches), None)
        return batch if batch else None


def open_backbone(model: ModelConfig, compute: Compute) -> Backbone:
    """Load a backbone onto the device, in the run's precision."""
    backbone = load_backbone(
        model.name, weights=model.weights, image_size=model.size, normalization=model.normalization
    )
    return compute.prepare(backbone)


def resolve_tokens(paths: Sequence[Path]) -> list[Path]:
    """Every token file that the config's files and run folders name."""
    return [file for path in paths for file in token_files(path)]


def run_evaluation(
    config: Config,
    make_task: Callable[[Bench], Task],
    *,
    resume: bool,
    overwrite: bool,
    command: Sequence[str],
    figures: Callable[[Bench, Evaluator, list[dict[str, Any]], Path], None],
    framing: Framing | None = None,
) -> dict[str, Any]:
    """Evaluate and write `config.yaml`, `run.json`, `results.json`, `per_image.csv` and the task's figures.

    Args:
        framing: how pictures are resized, where it is not as `data.resize` says.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    compute = Compute.start(precision=config.precision, compile=config.compile)
    folder = RunFolder(config.out, config.to_dict(), resume=resume, overwrite=overwrite)
    if folder.resuming and folder.finished("results.json"):
        if compute.is_main:
            folder.tidy(keep_state=False)
        say(f"{folder.path} holds a finished run: nothing is left to do", enabled=compute.is_main)
        return read_json(folder.path / "results.json")
    bench = Bench.prepare(config, compute, framing)
    task = make_task(bench)
    plain = Victim("plain", head=task.plain_head)
    robust = robust_victims(resolve_tokens(config.token_paths), bench.backbone, task.robust_heads)
    control = control_victims(
        robust, config.control_draws, bench.backbone.dim, config.seed, compute.device, task.plain_head
    )
    victims = [plain, *(control if "transfer" in config.threats else []), *robust]
    crafted = "transfer" in config.threats and any(attack.from_ is None for attack in config.attacks)
    surrogate = open_surrogate(bench, task) if crafted else ChosenSurrogate(config.model.name)
    trials = [make_trial(bench, task, attack, surrogate, plain, control, robust) for attack in config.attacks]
    evaluator = Evaluator(
        task, victims, trials, device=compute.device, std=bench.backbone.std, seed=config.seed
    )

    say(compute.summary(), enabled=compute.is_main)
    compute.wait()  # every process has looked at the folder before one writes into it
    if compute.is_main:
        folder.start()
    with folder.running():
        return _measure(bench, evaluator, folder, command, figures)


def _measure(
    bench: Bench,
    evaluator: Evaluator,
    folder: RunFolder,
    command: Sequence[str],
    figures: Callable[[Bench, Evaluator, list[dict[str, Any]], Path], None],
) -> dict[str, Any]:
    compute, source = bench.compute, bench.source
    journal = Journal(folder.state / "images.jsonl")
    record = RunRecord(folder, command, compute.describe())
    if compute.is_main:
        journal.rows()  # mends a torn line before the other processes read
        record.write(finished=False)
    compute.wait()
    done = finished_images(journal, source)
    evaluator.task.prepare(folder)
    batches = bench.batches(done=done)
    evaluator.run(batches, journal, compute, total=len(source), done=len(done))
    skipped = sorted(set(compute.gather(list(batches.skipped))))
    if len(skipped) == len(source):
        raise UserError(f"data: none of the {len(source)} images can be decoded, {skipped[0]} for one.")
    records = journal.rows() if compute.is_main else []
    if compute.is_main:
        require_all(journal.path, found=len(records), wanted=len(source) - len(skipped))
    rows = flat_rows(records, source.keys)
    results: dict[str, Any] = {
        "command": evaluator.task.command,
        "images": len(source) - len(skipped),
        "skipped": len(skipped),
        "rows": summarise(rows, evaluator.task.summarise),
    }
    if compute.is_main:
        write_atomic(folder.path / "per_image.csv", to_csv(rows))
        write_json(folder.path / "results.json", results)
        figures(bench, evaluator, results["rows"], folder.path)
        record.write(finished=True, skipped=skipped)
        shutil.rmtree(folder.state)
        if skipped:
            say(f"skipped {len(skipped)} files that cannot be decoded (named in run.json)")
    compute.wait()
    return results


def finished_images(journal: Journal, source: ImageSource) -> set[str]:
    """Return the images that an earlier, killed run has finished.

    Raises:
        UserError: some of them are not in the data any more.
    """
    done = {row["image"] for row in journal.rows()}
    gone = sorted(done.difference(source.keys))
    if gone:
        raise UserError(
            f"data: {len(gone)} images that this run has done before are gone now, {gone[0]} for one: put them back, "
            "or start again with --overwrite."
        )
    return done


def require_all(journal: Path, *, found: int, wanted: int) -> None:
    """Refuse to report on fewer images than there are: somebody removed or changed the run's journal."""
    if found != wanted:
        raise UserError(
            f"{journal} holds {found} images of {wanted}: it was changed while the run went on. The same command with "
            "--resume measures those that are missing."
        )


def make_trial(
    bench: Bench,
    task: Task,
    attack: AttackConfig,
    surrogate: ChosenSurrogate,
    plain: Victim,
    control: Sequence[Victim],
    robust: Sequence[Victim],
) -> Trial:
    """Plan one attack under every threat of the config; a set from disk holds the `transfer` threat only."""
    config = bench.config
    everyone = [plain, *control, *robust]
    name = config.model.name
    if attack.from_ is not None:
        return _stored_trial(bench, task, AdversarialSet(attack.from_), plain, everyone)
    crafts = []
    for threat in config.threats:
        if threat == "transfer":
            crafts += threats.transfer(
                plain, everyone, task.model, name=surrogate.name, surrogate=surrogate.models
            )
        elif threat == "informed":
            crafts += threats.informed(plain, robust, task.model, name=name, seed=config.seed)
        elif threat == "adaptive":
            several = task.several_targets
            crafts += threats.adaptive(plain, robust, task.model, name=name, several_targets=several)
    algorithm = build_attack(attack, task.objective)
    return Trial(attack.label, attack, algorithm, crafts, pixel_radius(attack, bench.backbone))


def pixel_radius(attack: AttackConfig, backbone: Backbone) -> float:
    """The attack's radius in pixels of [0, 1]: 8/255 in normalised space is about 1.8/255 with ImageNet's std."""
    return attack.eps * (float(backbone.std.mean()) if attack.units == "normalized" else 1.0)


def _stored_trial(
    bench: Bench, task: Task, stored: AdversarialSet, plain: Victim, everyone: Sequence[Victim]
) -> Trial:
    """Try every victim on a set from disk; whether its surrogate was fooled is known if it is the plain victim."""
    stored.check(bench.backbone, bench.source.keys)
    settings = AttackConfig.model_validate(stored.settings["attack"])
    name = settings.label if stored.objective == task.objective else f"{settings.label} on {stored.objective}"
    (craft,) = threats.transfer(plain, everyone, task.model, name=stored.settings["surrogate"])
    if not stored.surrogate_is_plain(bench.config):
        craft = replace(craft, probe=None)
    return Trial(name, settings, stored, [craft], pixel_radius(settings, bench.backbone))


@dataclass(frozen=True)
class ChosenSurrogate:
    """What `transfer` crafts on: its name, and its (attacked, target) models; None for the plain victim itself."""

    name: str
    models: tuple[Model, Model] | None = None


def open_surrogate(bench: Bench, task: Task) -> ChosenSurrogate:
    """Load the surrogate that the config names."""
    chosen, model = bench.config.surrogate, bench.config.surrogate_model
    same = model == bench.config.model
    if same and chosen.tokens is None and chosen.head == "same":
        return ChosenSurrogate(model.name)
    backbone = bench.backbone if same else open_backbone(model, bench.compute)
    if backbone.image_size != bench.backbone.image_size:
        raise UserError(
            f"surrogate.model.image_size is {model.height} x {model.width}, but the victim sees images of "
            f"{bench.config.model.height} x {bench.config.model.width}: both must see the same images."
        )
    if chosen.tokens is None:
        attacked = task.surrogate(backbone, None)
        return ChosenSurrogate(model.name, (attacked, attacked))
    tokens = RobustnessTokens.load(chosen.tokens)
    tokens.check(backbone, chosen.tokens)
    attacked = task.surrogate(backbone, tokens.values.to(bench.compute.device))
    return ChosenSurrogate(f"{model.name} + {chosen.tokens}", (attacked, task.surrogate(backbone, None)))


def require_tokens(config: Config) -> None:
    """Refuse an evaluation without token files: it could only repeat the plain backbone."""
    if not config.token_paths:
        raise UserError(
            "tokens: no token file is given: name a file or a run folder that `rtok train` wrote."
        )
