"""One evaluation from its config to the files in its run folder; every eval command goes through `run_evaluation`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.compute import Compute
from rtok.console import say
from rtok.data.framing import Framing
from rtok.data.source import ImageSource
from rtok.errors import UserError
from rtok.evaluation.bench import Bench, resolve_tokens
from rtok.evaluation.curve import write_curve
from rtok.evaluation.differences import paired_differences
from rtok.evaluation.guessed import GuessedTokens
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.plan import ChosenSurrogate, Planner, open_surrogate
from rtok.evaluation.results import flat_rows, summarise, to_csv
from rtok.evaluation.sanity import sanity
from rtok.evaluation.task import Task
from rtok.evaluation.victims import Victim, control_victims, robust_victims
from rtok.files import read_json, write_atomic, write_json
from rtok.runs.folder import RunFolder
from rtok.runs.journal import Journal
from rtok.runs.record import RunRecord

if TYPE_CHECKING:
    from rtok.config.schema import Config


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
    guessed = GuessedTokens.open(bench, task.plain_head) if "guessed" in config.threats else None
    crafted = any(attack.stored is None for attack in config.attacks)
    surrogate = open_surrogate(bench) if crafted else ChosenSurrogate(config.model.name)
    trials = Planner(bench, task, surrogate, plain, control, robust, guessed).trials()
    evaluator = Evaluator(
        task, victims, trials, device=compute.device, std=bench.backbone.std, seed=config.seed
    )

    say(compute.summary(), enabled=compute.is_main)
    compute.wait()  # every process has looked at the folder before one writes into it
    if compute.is_main:
        folder.start()
    with folder.running():
        return _measure(bench, evaluator, guessed, folder, command, figures)


def _measure(
    bench: Bench,
    evaluator: Evaluator,
    guessed: GuessedTokens | None,
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
    if guessed is not None:
        guessed.prepare(folder)
    batches = bench.batches(done=done)
    evaluator.run(batches, journal, compute, total=len(source), done=len(done))
    skipped = sorted(set(compute.gather(list(batches.skipped))))
    if len(skipped) == len(source):
        raise UserError(f"data: none of the {len(source)} images can be decoded, {skipped[0]} for one.")
    records = journal.rows() if compute.is_main else []
    if compute.is_main:
        require_all(journal.path, found=len(records), wanted=len(source) - len(skipped))
    rows, curve = (flat_rows(records, source.keys, part) for part in ("rows", "curve"))
    results: dict[str, Any] = {
        "command": evaluator.task.command,
        "images": len(source) - len(skipped),
        "skipped": len(skipped),
        "rows": summarise(rows, evaluator.task.summarise),
        "differences": paired_differences(rows, evaluator.task.paired),
    }
    if curve:
        results["curve"] = summarise(curve, evaluator.task.summarise)
    if compute.is_main:
        results["sanity"] = sanity(bench, evaluator, rows)
        write_atomic(folder.path / "per_image.csv", to_csv(rows))
        write_json(folder.path / "results.json", results)
        figures(bench, evaluator, results["rows"], folder.path)
        if curve:
            write_curve(results["curve"], next(iter(evaluator.task.paired)), folder.path)
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


def require_tokens(config: Config) -> None:
    """Refuse an evaluation without token files: it could only repeat the plain backbone."""
    if not config.token_paths:
        raise UserError(
            "tokens: no token file is given: name a file or a run folder that `rtok train` wrote."
        )
