"""Robustness tokens: extra, private input tokens that make public Vision Transformers harder to attack.

The names below are the Python API. `import rtok` imports no torch; each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rtok.version import __version__ as __version__

if TYPE_CHECKING:
    from rtok.attacks import PGD
    from rtok.config import Config, load_config
    from rtok.conversion import convert
    from rtok.defenses import RobustnessTokens
    from rtok.defenses.robustify import robustify
    from rtok.errors import UserError
    from rtok.evaluation import evaluate_features
    from rtok.inspection import inspect
    from rtok.models import Backbone, load_backbone
    from rtok.registration import (
        register_attack,
        register_backbone,
        register_dataset,
        register_defense,
        register_threat,
    )
    from rtok.training import train

__all__ = [
    "PGD",
    "Backbone",
    "Config",
    "RobustnessTokens",
    "UserError",
    "convert",
    "evaluate_features",
    "inspect",
    "load_backbone",
    "load_config",
    "register_attack",
    "register_backbone",
    "register_dataset",
    "register_defense",
    "register_threat",
    "robustify",
    "train",
]

_NAMES = {
    "rtok.attacks": ["PGD"],
    "rtok.config": ["Config", "load_config"],
    "rtok.conversion": ["convert"],
    "rtok.defenses": ["RobustnessTokens"],
    "rtok.defenses.robustify": ["robustify"],
    "rtok.errors": ["UserError"],
    "rtok.evaluation": ["evaluate_features"],
    "rtok.inspection": ["inspect"],
    "rtok.models": ["Backbone", "load_backbone"],
    "rtok.registration": [name for name in __all__ if name.startswith("register_")],
    "rtok.training": ["train"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
