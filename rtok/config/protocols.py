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
    *("data.name", "data.root", "data.extra", "data.holdout", "data.verify", "data.workers"),
    *("batch_size", "compile", "analysis", "curve", "out"),
)


def fixed(config: Config) -> dict[str, Any]:
    """Return the settings that the protocol of a config fixes, by dotted key; none without a protocol."""
    if config.protocol is None:
        return {}
    raw = yaml.safe_load(protocols()[config.protocol])
    raw["model"]["name"] = config.model.name
    raw["data"] |= {"name": config.data.name, "root": config.data.root}
    return _not_free(Config.model_validate(raw))


def deviations(config: Config) -> dict[str, Any]:
    """Return the values of a config that are not those of its protocol, by dotted key; none without one."""
    wanted, given = fixed(config), _not_free(config)
    keys = dict.fromkeys([*wanted, *given]) if wanted else ()
    return {key: given.get(key) for key in keys if given.get(key) != wanted.get(key)}


def _not_free(config: Config) -> dict[str, Any]:
    used = {key: value for key, value in config.to_dict().items() if key in USES[COMMAND]}
    return {key: value for key, value in _leaves(used) if not _is_free(key)}


def _is_free(key: str) -> bool:
    return any(f"{key}.".startswith(f"{free}.") for free in FREE)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings and lists with its dotted path; an empty one is a value."""
    if not value or not isinstance(value, dict | list):
        yield path, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(part, f"{path}.{key}" if path else str(key))
