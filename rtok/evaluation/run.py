"""One evaluation from its config to the files in its run folder; every eval command goes through `run_evaluation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from rtok.attacks.graphs import graphs_for
from rtok.compute import Compute
from rtok.data.framing import Framing
from rtok.defenses import resolve_defenses
from rtok.errors import UserError
from rtok.evaluation.curve import write_curve
from rtok.evaluation.extracted import ExtractedDefenses
from rtok.evaluation.guessed import GuessedDefenses
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.plan import Planner, open_surrogate
from rtok.evaluation.protocol import described, write_entries
from rtok.evaluation.sanity import sanity
from rtok.evaluation.task import Task
from rtok.evaluation.threats import ThreatContext
from rtok.evaluation.victims import Victim, control_victims, robust_victims
from rtok.files import read_json, write_json
from rtok.reporting.results import Results
from rtok.results.columns import main_column, paired_columns
from rtok.results.differences import paired_differences
from rtok.results.methods import Seed, method_rows
from rtok.results.rows import trained_settings
from rtok.results.scalars import scalars
from rtok.results.summary import by_victim, flat_rows, summarize, write_csv
from rtok.runs.inputs import inputs_of
from rtok.runs.journal import Journal
from rtok.runs.run import Run, RunOptions
from rtok.runs.tracking import Tracking
from rtok.setup import Given, Setup

if TYPE_CHECKING:
    from rtok.config.schema import Config


WEAK_TRANSFER = (
    "Under transfer, {} is no transfer attack: it stops as soon as the surrogate errs, just beyond its boundary, so a "
    "victim that withstands its images has withstood little. Use it under adaptive; under transfer use apgd or diverse."
)


def run_evaluation(
    config: Config,
    open_task: Callable[[Setup], Task],
    framing: Framing | None = None,
    given: Given | None = None,
    **options: Unpack[RunOptions],
) -> Results:
    """Evaluate and write `config.yaml`, `run.json`, `results.json`, `per_image.csv` and the task's figures.

    Args:
        framing: how pictures are resized, where it is not as `data.resize` says.
        given: what is in memory already, in place of what the config names.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: the input is wrong; nothing has been written then.
    """
    compute = Compute.start(
        precision=config.precision, compile=config.compile, tracking=config.tracking, out=config.out
    )
    with Run.open(config, compute, **options) as run:
        if run.finished("results.json"):
            return Results(read_json(run.path / "results.json"), run.path)
        setup = Setup.open(config, compute, framing, given)
        task = open_task(setup)
        guessed = GuessedDefenses.open(setup, task.plain_head) if "guessed" in config.threats else None
        extracted = ExtractedDefenses.open(setup) if "extracted" in config.threats else None
        evaluator = open_evaluator(setup, task, guessed, extracted)
        queried = None if extracted is None else extracted.queried
        inputs = inputs_of(setup, surrogate=evaluator.surrogate, split=task.split, queried=queried)
        run.start(inputs, setup.source.keys)
        done = {row["image"] for row in run.journal}
        task.prepare(run)
        if guessed is not None:
            guessed.prepare(run)
        if extracted is not None:
            extracted.prepare(run, task, *evaluator.victims)
        results = Results(_measure(setup, evaluator, run, done), run.path)
    tracking = Tracking(config, compute)
    tracking.start()
    tracking.log(scalars(results["command"], results.rows))
    tracking.log_figures(results.out)
    tracking.finish()
    return results


def open_evaluator(
    setup: Setup, task: Task, guessed: GuessedDefenses | None, extracted: ExtractedDefenses | None = None
) -> Evaluator:
    """Load the victims and plan the trials."""
    config, backbone = setup.config, setup.backbone
    plain = Victim("plain", backbone, head=task.plain_head)
    files = resolve_defenses(config.defense_places)
    robust = robust_victims(files, backbone, task.robust_heads, check_weights=config.check_weights)
    control = control_victims(robust, config.control_draws, backbone, config.seed, task.control_heads)
    crafted = any(not attack.stored for attack in config.attacks)
    name, surrogate = open_surrogate(setup, plain) if crafted else (config.model.name, plain)
    guesses = [] if guessed is None else guessed.victims
    copies = {} if extracted is None else extracted.copies
    context = ThreatContext(
        config, plain, surrogate, control, robust, guesses, copies, name, several_targets=task.several_targets
    )
    trials = Planner(setup, task, context).trials()
    tried = {victim for trial in trials for victim in trial.victims}
    victims = [plain, *(victim for victim in control if victim in tried), *robust]
    return Evaluator(
        task,
        victims,
        trials,
        setup.compute.device,
        std=backbone.std,
        seed=config.seed,
        surrogate=surrogate.features.backbone,
        graphs=graphs_for(setup.compute),
    )


def _measure(setup: Setup, evaluator: Evaluator, run: Run, done: set[str]) -> dict[str, Any]:
    config, compute, source, task = setup.config, setup.compute, setup.source, evaluator.task
    batches = setup.batches(done=done)
    evaluator.run(batches, run.journal, compute, total=len(source), done=len(done))
    skipped = sorted(set(compute.gather(list(batches.skipped))))
    if len(skipped) == len(source):
        raise UserError(f"data: none of the {len(source)} images can be decoded, {skipped[0]} for one.")
    records = run.journal.ordered(source.keys) if compute.is_main else ()
    if compute.is_main:
        require_all(run.journal, found=len(records), wanted=len(source) - len(skipped))
    measured = by_victim(flat_rows(records))
    curve = by_victim(flat_rows(records, "curve")) if config.curve else []
    paired = paired_columns(task.command)
    results: dict[str, Any] = {
        "command": task.command,
        "inputs": run.inputs,
        "images": len(source) - len(skipped),
        "skipped": len(skipped),
        "rows": summarize(measured, task.summarize),
        "differences": paired_differences(measured, paired),
        "defenses": described(evaluator.victims),
    }
    if methods := method_rows(measured, _seeds(evaluator), task.summarize, paired):
        results["methods"] = methods
    if weak := _weak_transfers(evaluator):
        results["cautions"] = weak
    if curve:
        results["curve"] = summarize(curve, task.summarize)
    if compute.is_main:
        results["sanity"] = sanity(setup, evaluator)
        write_csv(run.path / "per_image.csv", flat_rows(records))
        write_json(run.path / "results.json", results)
        task.draw(setup, evaluator, results["rows"], run.path)
        _draw_tradeoff(results, run.path)
        if config.protocol:
            write_entries(setup, task, measured, results, run.path)
        if curve:
            write_curve(results["curve"], paired[0], run.path)
    run.finish(skipped=skipped)
    return results


def _draw_tradeoff(results: Mapping[str, Any], out: Path) -> None:
    """Draw what several defenses keep under attack against what they cost."""
    from rtok.reporting.figures.tradeoff import tradeoff

    tradeoff(results["rows"], trained_settings(results), out / "tradeoff.png", main_column(results["command"]))


def _weak_transfers(evaluator: Evaluator) -> dict[str, str]:
    """By its name, what to say of an attack that is tried under `transfer` but made for white-box threats."""
    found = [trial for trial in evaluator.trials if trial.threat == "transfer" and trial.settings.stops_when_fooled]
    labels = evaluator.task.objective == "labels"
    return {trial.name: WEAK_TRANSFER.format(trial.settings.method) for trial in found if labels}


def _seeds(evaluator: Evaluator) -> dict[str, Seed]:
    """Which seed of which training each defense file is, where it says so."""
    trained = ((victim.file, victim.defense) for victim in evaluator.victims)
    return {
        file: Seed(defense.method, defense.training_seed)
        for file, defense in trained
        if file is not None and defense is not None and defense.method is not None
    }


def require_all(journal: Journal, *, found: int, wanted: int) -> None:
    """Refuse to report on fewer images than there are: somebody removed or changed the run's journal."""
    if found != wanted:
        raise UserError(
            f"{journal.path} holds {found} images of {wanted}: it was changed while the run went on. The same command "
            "with --resume measures those that are missing."
        )
