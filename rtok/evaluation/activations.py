"""The largest activation after every block, of clean and adversarial images: the paper's analysis of what attacks do.

All victims are shown the same images: those of the first attack under `transfer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtok.data.loader import Batch, evaluation_batches
from rtok.evaluation.examples import attacked, transfer_trial
from rtok.evaluation.loop import Evaluator
from rtok.evaluation.victims import Victim
from rtok.results.summary import write_csv
from rtok.setup import Setup
from rtok.statistics import mean_interval

_WHO = ("victim", "defense", "kind", "n")


def write_activations(setup: Setup, evaluator: Evaluator, out: Path) -> None:
    """Write `activations.csv` and `activations.png` about the first `analysis.images` images."""
    from rtok.reporting.figures.activations import activation_lines

    rows = largest_activations(setup, evaluator)
    write_csv(out / "activations.csv", rows)
    activation_lines(rows, out / "activations.png")


def largest_activations(setup: Setup, evaluator: Evaluator) -> list[dict[str, Any]]:
    """Return a row per victim, defense, images (clean or adversarial), positions and block.

    `largest` is the mean over the images of the largest absolute activation after the block, among the model's own
    `positions` (class token, registers, patches) or among its robustness `tokens`. `low` and `high` are the mean's 95 %
    interval, clustered by photo. The control is the mean over its draws.
    """
    members: dict[tuple[Any, ...], list[Victim]] = {}
    found: dict[tuple[Any, ...], list[Tensor]] = {}
    groups: list[str] = []
    for victim in evaluator.victims:
        members.setdefault(tuple(victim.identity()[key] for key in _WHO), []).append(victim)
    trial = transfer_trial(evaluator)
    assert trial is not None
    for batch in _first(setup):
        groups += batch.groups
        _, images, adversarial = attacked(evaluator, trial, batch)
        for who, victims in members.items():
            for kind, seen in (("clean", images), ("adversarial", adversarial)):
                for positions, values in _of_victims(victims, seen).items():
                    found.setdefault((*who, kind, positions), []).append(values)
    rows = []
    for key, parts in found.items():
        about = dict(zip((*_WHO, "images", "positions"), key, strict=True))
        for block, values in enumerate(torch.cat(parts).T.tolist(), start=1):
            low, high = mean_interval(values, groups) or (None, None)
            mean = sum(values) / len(values)
            rows.append({**about, "block": block, "largest": mean, "low": low, "high": high})
    return rows


def _first(setup: Setup) -> Iterator[Batch]:
    """The first `analysis.images` images, in batches."""
    config, source = setup.config, setup.source
    batches = evaluation_batches(
        source,
        setup.transform,
        batch_size=max(1, config.batch_size // setup.compute.processes),
        seed=config.seed,
        on_error="skip",  # those that cannot be decoded have been counted before
        skip=frozenset(source.keys[config.analysis.images :]),
    )
    return (batch for batch in batches if batch.keys)


def _of_victims(victims: Sequence[Victim], images: Tensor) -> dict[str, Tensor]:
    """The largest activations (b, depth) among the own positions and among the tokens; the mean over the victims."""
    found: dict[str, list[Tensor]] = {}
    for victim in victims:
        with torch.no_grad():
            # one image at a time: every block's activations are held at once
            largest = torch.cat([victim.features.largest_activations(x) for x in images.split(1)])
        end = largest.shape[-1] - (victim.count or 0)
        for name, part in (("own", largest[..., :end]), ("tokens", largest[..., end:])):
            if part.shape[-1]:
                found.setdefault(name, []).append(part.amax(-1).cpu())
    return {name: torch.stack(values).mean(0) for name, values in found.items()}
