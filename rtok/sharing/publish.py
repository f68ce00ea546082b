"""From a run's folder to a repository of the hub: the public folder is written first, then uploaded as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rtok.config import strict_yaml
from rtok.config.rules import USES
from rtok.defenses import defense_files
from rtok.errors import UserError
from rtok.files import read_json, write_atomic, write_json
from rtok.models.locations import FOLDER, SHORT, OnHub
from rtok.reporting.report.runs import ATTACK, Run, read_runs
from rtok.results.files import read_entry
from rtok.runs.folder import ENTRIES
from rtok.sharing.card import card
from rtok.sharing.defenses import TOKENS, WEIGHTS, Shared, shared
from rtok.sharing.figures import drawn
from rtok.sharing.public import Renaming, without_places
from rtok.sharing.upload import require_login, upload

README = "README.md"
_RECORDED = ("versions", "seconds", "finished")  # of a run's record; its command line and inputs name files
_DEVICE = ("type", "name", "precision")


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Attributes:
        folder: where the files are; None for a temporary folder, which is gone.
        files: their names.
        defenses: those of the run, and which of them are among the files.
        url: the repository's address; None if nothing was uploaded.
    """

    folder: Path | None
    files: list[str]
    defenses: list[Shared]
    url: str | None


def push(
    run: str | Path,
    to: str,
    *,
    with_tokens: bool = False,
    with_weights: bool = False,
    private: bool = False,
    dry_run: bool = False,
    out: str | Path | None = None,
) -> Pushed:
    """Publish a run with a model card: its results, settings and figures, and the defenses that are asked for.

    Args:
        run: the folder of a finished evaluation, or of a finished training whose defense is published.
        to: `hf:USER/REPO`.
        with_tokens: publish private defenses, such as tokens, too, which gives them away.
        with_weights: publish a LoRA or whole weights too.
        private: make the repository a private one.
        dry_run: write the folder, and upload nothing.
        out: the folder to write. None: `results/push-USER-REPO` for a dry run, else a temporary one.

    Raises:
        UserError: `to` is no repository, the run is not finished or has nothing to publish, or the hub refuses it.
    """
    target = OnHub.parse(to)
    if target.revision or target.file:
        raise UserError(f"--to {to}: name a repository, {SHORT}{target.repository}.")
    (source,) = read_runs([Path(run)])
    _check(source)
    flags = [flag for flag, given in ((TOKENS, with_tokens), (WEIGHTS, with_weights)) if given]
    defenses = shared(_places(source), source.setting("model", "name"), flags)
    if source.results is None and not any(one.given for one in defenses.values()):
        needed = " and ".join(sorted({flag for one in defenses.values() for flag in one.needs}))
        raise UserError(
            f"'{run}' holds no results: push the run of an evaluation of its defense, or publish the defense itself "
            f"with {needed}."
        )
    if not dry_run:
        require_login()
    with _folder(Path(out) if out else None, target, dry_run) as folder:
        _write(source, target.repository, defenses, folder)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        url = None if dry_run else upload(folder, target.repository, private=private)
    return Pushed(folder if folder.is_dir() else None, files, list(defenses.values()), url)


def _check(run: Run) -> None:
    if run.command == ATTACK:
        raise UserError(f"'{run.path}' is a set of adversarial images: push the evaluation that used it.")
    if not run.finished:
        raise UserError(f"'{run.path}' is not finished: `rtok resume {run.path}` goes on with it.")
    name = str(run.setting("model", "name"))
    if FOLDER in name:
        raise UserError(
            f"'{run.path}' is of the model '{name}', which nobody else can find: put its folder on the hub, and name "
            "it timm:hf-hub:USER/REPO."
        )


def _places(run: Run) -> list[str]:
    """Where the defenses of a run lie: what its rows name, or what it trained."""
    if run.results is None:
        return list(map(str, defense_files(run.path)))
    return list(dict.fromkeys(row["defense"] for row in run.results["rows"] if row["defense"] is not None))


@contextmanager
def _folder(out: Path | None, target: OnHub, dry_run: bool) -> Iterator[Path]:
    """An empty folder."""
    if out is None and not dry_run:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = out or Path("results", f"push-{target.repository.replace('/', '-')}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: name an empty or new folder with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}. Name another folder with --out.") from error


def _write(run: Run, repository: str, defenses: Mapping[str, Shared], folder: Path) -> None:
    """Write everything; the card last, from what is in the folder."""
    hashes = {one.name: one.write(folder) for one in defenses.values() if one.given}
    used = USES[run.command]
    settings, hidden = without_places({key: value for key, value in run.settings.items() if key in used})
    if run.results is not None and defenses and all(one.given for one in defenses.values()):
        settings["defense"] = f"{SHORT}{repository}"
    renamed = Renaming.of(run.path, {text: one.name for text, one in defenses.items()}, hidden)
    write_atomic(folder / "config.yaml", strict_yaml.dump(settings))
    write_json(folder / "run.json", _record(run))
    if run.results is not None:
        write_json(folder / "results.json", _with_hashes(renamed(read_json(run.path / "results.json")), hashes))
        _write_entries(run.path, folder, renamed, hashes)
    (written,) = read_runs([folder])
    public = drawn(written, run.metrics)
    write_atomic(folder / README, card(public, repository, list(defenses.values()), hashes))


def _record(run: Run) -> dict[str, Any]:
    device = run.record.get("device")
    known = {key: device[key] for key in _DEVICE if key in device} if isinstance(device, Mapping) else {}
    return {"command": ["rtok", run.command], **{key: run.record.get(key) for key in _RECORDED}, "device": known}


def _with_hashes(results: dict[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    """Let results name the files that the repository has."""
    for name, about in results.get("defenses", {}).items():
        about["sha256"] = hashes.get(name, about.get("sha256"))
    return results


def _write_entries(run: Path, folder: Path, renamed: Renaming, hashes: Mapping[str, str]) -> None:
    """Write the entries of a leaderboard under the public names of their defenses."""
    for path in sorted(run.glob(ENTRIES)):
        read_entry(path)  # which refuses a damaged one
        entry = renamed(read_json(path))
        (name,) = dict.fromkeys(row["defense"] for row in entry["scores"] if row["defense"] is not None)
        entry["name"] = Path(name).stem
        entry["defense"]["sha256"] = hashes.get(name, entry["defense"]["sha256"])
        write_json(folder / f"{entry['protocol']}-{entry['name']}.json", entry)
