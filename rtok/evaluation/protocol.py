"""The entries of a run that follows a protocol: a JSON file per defense, with all that a leaderboard discloses."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.config.defenses import named_place
from rtok.config.protocols import deviations, fixed
from rtok.defenses.hub import local_file
from rtok.evaluation.task import Task
from rtok.evaluation.victims import Victim
from rtok.files import sha256_of, write_json
from rtok.results.columns import paired_columns
from rtok.results.differences import paired_differences
from rtok.results.rows import Row
from rtok.results.summary import Measured, over_attacks, summarize
from rtok.runs.folder import flatten
from rtok.runs.inputs import images_identity
from rtok.runs.record import versions

if TYPE_CHECKING:
    from rtok.setup import Setup

_SECTIONS = ("train", "attack")  # of a defense's training, which results disclose; its data's place is private


def described(victims: Sequence[Victim]) -> dict[str, Row]:
    """Say what each robust victim's defense is, by its file: kind, SHA-256, parameters, and how it was trained.

    `trained` has the settings of `train`, `attack` and `defense` by dotted key, `seeds` those of the training's data
    and noise and of the defense's start, all as far as the file says.
    """
    found: dict[str, Row] = {}
    for victim in victims:
        if victim.role != "robust" or victim.file is None or victim.defense is None or victim.file in found:
            continue
        defense, place = victim.defense, named_place(victim.file)
        sections = {name: part for name in _SECTIONS if isinstance(part := defense.config.get(name), Mapping)}
        trained = flatten({**sections, "defense": defense.settings()})
        found[victim.file] = {
            "kind": defense.kind,
            "sha256": sha256_of(local_file(place)) if isinstance(place, Path) else None,
            "parameters": sum(values.numel() for values in defense.parameters().values()),
            "trained": {key: value for key, value in trained.items() if not isinstance(value, list)},
            "seeds": dict(zip(("training", "start"), defense.training_seed, strict=True)),
        }
    return found


def write_entries(
    setup: Setup, task: Task, measured: Sequence[Measured], results: Mapping[str, Any], out: Path
) -> None:
    """Write `PROTOCOL-NAME.json` for each defense into the run's folder.

    Args:
        measured: what scores (means over the protocol's attacks) are computed from.
        results: the content of `results.json`.
    """
    config = setup.config
    averaged = over_attacks(measured, f"mean over {len(config.attacks)} attacks")
    scores = summarize(averaged, task.summarize)
    differences = paired_differences(averaged, paired_columns(task.command))
    shared = {
        "protocol": config.protocol,
        "deviations": deviations(config),
        "fixed": fixed(config),
        "model": {
            **{"name": config.model.name, "weights": setup.backbone.fingerprint()},
            "normalization": config.model.normalization,
        },
        "data": {
            **{"name": config.data.name, "split": config.data.split},
            "images": images_identity(setup.source, whole=True),
        },
        "sanity": (results.get("sanity") or {}).get("verdict"),
        "versions": versions(),
    }
    for file, name in entry_names(results["defenses"]).items():
        entry = {
            **shared,
            "name": name,
            "defense": results["defenses"][file],
            "scores": _concerning(scores, file),
            "differences": [row for row in differences if row["defense"] == file],
            "rows": _concerning(results["rows"], file),
        }
        write_json(out / f"{config.protocol}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.json", entry)


def entry_names(files: Collection[str]) -> dict[str, str]:
    """Name each defense by its run and file, `tokens/rtokens-10`; by its whole path where two would be the same."""
    names = {file: "/".join(part for part in (Path(file).parent.name, Path(file).stem) if part) for file in files}
    return names if len(set(names.values())) == len(names) else {file: file for file in files}


def _concerning(rows: Sequence[Row], file: str) -> list[Row]:
    """The rows of one defense, of its control and of the plain model."""
    kinds = {(row["kind"], row["n"]) for row in rows if row["defense"] == file}
    return [
        row
        for row in rows
        if row["defense"] == file
        or row["victim"] == "plain"
        or (row["victim"] == "random" and (row["kind"], row["n"]) in kinds)
    ]
