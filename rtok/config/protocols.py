"""Named protocols: settings that make the results of different people comparable, and what deviates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from rtok.config.ready import protocols
from rtok.config.rules import USES
from rtok.config.schema import Config

COMMAND = "eval-features"
# What the user of a protocol chooses: the model, the defenses, the images to draw from, and how the run is carried out.
# `analysis` and `curve` add to the results and change none of them.
FREE = (
    *("model.name", "model.weights", "model.normalization", "defense"),
    *("data.name", "data.root", "data.repo", "data.subset", "data.image_column", "data.label_column"),
    *("data.extra", "data.holdout", "data.verify", "data.workers"),
    *("batch_size", "compile", "analysis", "curve", "tracking", "out"),
)


def fixed(config: Config) -> dict[str, Any]:
    """Return the settings that the protocol of a config fixes, by dotted key; none without a protocol."""
    return {} if config.protocol is None else dict(_differing({}, _used(_of_protocol(config))))


def deviations(config: Config) -> dict[str, Any]:
    """Return the values of a config that are not those of its protocol, by dotted key; none without one.

    A list of another length is named as a whole.
    """
    return {} if config.protocol is None else dict(_differing(_used(_of_protocol(config)), _used(config)))


def _of_protocol(config: Config) -> Config:
    """Return the protocol that a config names, for the config's model and images."""
    assert config.protocol is not None
    raw = yaml.safe_load(protocols()[config.protocol])
    raw["model"]["name"] = config.model.name
    raw["data"] |= {"name": config.data.name, "root": config.data.root, "repo": config.data.repo}
    return Config.model_validate(raw)


def _used(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key in USES[COMMAND]}


def _is_free(key: str) -> bool:
    return any(f"{key}.".startswith(f"{free}.") for free in FREE)


def _differing(wanted: Any, given: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of `given` that are others than in `wanted`, but for those that are free, by dotted key."""
    if _is_free(path):
        return
    if isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        wanted, given = (dict(enumerate(values)) for values in (wanted, given))
    if isinstance(given, dict) and (isinstance(wanted, dict) or wanted is None):
        before = wanted or {}
        for key in [*given, *(key for key in before if key not in given)]:
            yield from _differing(before.get(key), given.get(key), f"{path}.{key}" if path else str(key))
    elif wanted != given:
        yield path, given
