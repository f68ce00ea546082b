"""Evaluation: victims, threats, one loop, and the measurements that plug into it."""

from rtok.evaluation.adversarial import AttackResult, make_adversarial_set
from rtok.evaluation.tasks.classification import evaluate_classification
from rtok.evaluation.tasks.features import evaluate_features
from rtok.evaluation.tasks.segmentation import evaluate_segmentation

__all__ = [
    "AttackResult",
    "evaluate_classification",
    "evaluate_features",
    "evaluate_segmentation",
    "make_adversarial_set",
]
