"""Robustness tokens: extra, private input tokens that make public Vision Transformers harder to attack.

The names below are the Python API. `import rtok` imports no torch; each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rtok.version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers, which cannot read the table
    from rtok.api import attack as attack
    from rtok.api import evaluate as evaluate
    from rtok.api import report as report
    from rtok.api import train as train
    from rtok.attacks import PGD as PGD
    from rtok.attacks import Context as Context
    from rtok.attacks import Crafted as Crafted
    from rtok.attacks import FeatureCriterion as FeatureCriterion
    from rtok.attacks import FixedSurrogate as FixedSurrogate
    from rtok.attacks import LabelCriterion as LabelCriterion
    from rtok.attacks import Objective as Objective
    from rtok.attacks import Perturbed as Perturbed
    from rtok.attacks import craft as craft
    from rtok.attacks.masks import MaskCriterion as MaskCriterion
    from rtok.attacks.objective import Step as Step
    from rtok.config import AttackConfig as AttackConfig
    from rtok.config import Config as Config
    from rtok.config import DefenseConfig as DefenseConfig
    from rtok.config import load_config as load_config
    from rtok.conversion import convert as convert
    from rtok.defenses import Defense as Defense
    from rtok.defenses import RobustnessTokens as RobustnessTokens
    from rtok.defenses import Stack as Stack
    from rtok.defenses import load_defense as load_defense
    from rtok.defenses.robustify import robustify as robustify
    from rtok.errors import UserError as UserError
    from rtok.evaluation import evaluate_classification as evaluate_classification
    from rtok.evaluation import evaluate_features as evaluate_features
    from rtok.evaluation import evaluate_segmentation as evaluate_segmentation
    from rtok.evaluation import make_adversarial_set as make_adversarial_set
    from rtok.evaluation.threats import Scenario as Scenario
    from rtok.inspection import inspect as inspect
    from rtok.models import Backbone as Backbone
    from rtok.models import load_backbone as load_backbone
    from rtok.models.entry import Entry as Entry
    from rtok.models.from_transformers import backbone_from as backbone_from
    from rtok.models.spec import ModelSpec as ModelSpec
    from rtok.registration import register_attack as register_attack
    from rtok.registration import register_backbone as register_backbone
    from rtok.registration import register_dataset as register_dataset
    from rtok.registration import register_defense as register_defense
    from rtok.registration import register_threat as register_threat
    from rtok.reporting.results import Results as Results
    from rtok.results.columns import Column as Column
    from rtok.results.columns import register_column as register_column
    from rtok.sharing import push as push
    from rtok.training import TrainResult as TrainResult

_NAMES = {
    "api": "attack evaluate report train",
    "attacks": "PGD Context Crafted FeatureCriterion FixedSurrogate LabelCriterion Objective Perturbed craft",
    "attacks.masks": "MaskCriterion",
    "attacks.objective": "Step",
    "config": "AttackConfig Config DefenseConfig load_config",
    "conversion": "convert",
    "defenses": "Defense RobustnessTokens Stack load_defense",
    "defenses.robustify": "robustify",
    "errors": "UserError",
    "evaluation": "evaluate_classification evaluate_features evaluate_segmentation make_adversarial_set",
    "evaluation.threats": "Scenario",
    "inspection": "inspect",
    "models": "Backbone load_backbone",
    "models.entry": "Entry",
    "models.from_transformers": "backbone_from",
    "models.spec": "ModelSpec",
    "registration": "register_attack register_backbone register_dataset register_defense register_threat",
    "reporting.results": "Results",
    "results.columns": "Column register_column",
    "sharing": "push",
    "training": "TrainResult",
}
_HOME = {name: f"rtok.{home}" for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
