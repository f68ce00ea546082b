"""What is claimed of a method: defenses that are seeds of one training, taken together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rtok.results.columns import Column
from rtok.results.differences import baselines, compared
from rtok.results.images import Images, side_by_side
from rtok.results.rows import Row
from rtok.results.summary import Measured


@dataclass(frozen=True)
class Seed:
    """Which seed of which training a defense file is.

    Attributes:
        method: the training, but for its seeds.
        seed: what tells its seeds apart.
    """

    method: str
    seed: tuple[object, ...]


def method_rows(
    victims: Sequence[Measured], seeds: Mapping[str, Seed], summary: Callable[[Images], Row], columns: Sequence[Column]
) -> list[Row]:
    """One row per method of several seeds, attack and threat.

    A row has the columns of `results.json`, as means over images and seeds: `ci95` takes both as samples, of other
    images and of other trainings. Beside them `defenses` (the files), `seeds` (their number), `std` (each number's
    standard deviation over the seeds), and `differences` to the control and the plain model.

    Args:
        victims: what the images say of each.
        seeds: of the defense files that say so.
        summary: gives the columns of a victim.
        columns: the columns to compare in `differences`.
    """
    return [_method_row(members, victims, summary, columns) for members in _methods(victims, seeds)]


def _method_row(
    members: Sequence[Measured],
    victims: Sequence[Measured],
    summary: Callable[[Images], Row],
    columns: Sequence[Column],
) -> Row:
    images = side_by_side([one.images for one in members])
    together = Measured(replace(members[0].who, defense=None), None, images)
    others = [other for other in baselines(members[0], victims) if other.who.victim != "robust"]
    return {
        **together.who.columns(),
        "defenses": [one.who.defense for one in members],
        "seeds": len(members),
        "images": len(images),
        **summary(images),
        "std": _deviations([summary(one.images) for one in members]),
        "differences": [{**together.who.columns(), **compared(together, other, columns)} for other in others],
    }


def _methods(victims: Sequence[Measured], seeds: Mapping[str, Seed]) -> list[list[Measured]]:
    """Group robust victims that differ in the seed of their training alone; groups of one are left out."""
    groups: dict[object, dict[object, Measured]] = {}
    for one in victims:
        known = seeds.get(one.who.defense or "")
        if one.who.victim == "robust" and known is not None:
            groups.setdefault((known.method, replace(one.who, defense=None)), {}).setdefault(known.seed, one)
    return [list(members.values()) for members in groups.values() if len(members) > 1]


def _deviations(found: Sequence[Row]) -> Row:
    """The standard deviation over the seeds, n - 1 in the denominator, of every number that all of them have."""
    columns = {key: [one[key] for one in found] for key in found[0]}
    return {
        key: statistics.stdev(values)
        for key, values in columns.items()
        if all(isinstance(value, float) for value in values)
    }
