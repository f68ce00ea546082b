"""Evaluation: victims, threats, one loop, and the measurements that plug into it."""

from rtok.evaluation.adversarial import AttackResult, make_adversarial_set
from rtok.evaluation.features import evaluate_features

__all__ = ["AttackResult", "evaluate_features", "make_adversarial_set"]
