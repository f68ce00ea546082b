"""Attacks: an algorithm (`PGD`), an objective (surrogate and criterion), and adversarial sets on disk."""

from rtok.attacks.objective import Axis, FeatureCriterion, FixedSurrogate, LabelCriterion, Objective, cosine
from rtok.attacks.pgd import PGD, Perturbed

__all__ = [
    "PGD",
    "Axis",
    "FeatureCriterion",
    "FixedSurrogate",
    "LabelCriterion",
    "Objective",
    "Perturbed",
    "cosine",
]
