"""Attacks: an algorithm (`PGD`, `APGD`), an objective (surrogate and criterion), and `craft`, which runs them."""

from rtok.attacks.apgd import APGD
from rtok.attacks.base import Attack, Context, Crafted, Perturbed, build, craft
from rtok.attacks.criteria import Axis, FeatureCriterion, LabelCriterion, cosine
from rtok.attacks.masks import MaskCriterion
from rtok.attacks.objective import FixedSurrogate, Objective
from rtok.attacks.pgd import PGD

__all__ = [
    "APGD",
    "PGD",
    "Attack",
    "Axis",
    "Context",
    "Crafted",
    "FeatureCriterion",
    "FixedSurrogate",
    "LabelCriterion",
    "MaskCriterion",
    "Objective",
    "Perturbed",
    "build",
    "cosine",
    "craft",
]
