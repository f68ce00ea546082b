"""Defenses: what is added to a frozen backbone, how it is saved and read, and how it enters the model."""

from rtok.defenses.base import Defense
from rtok.defenses.files import defense_files, load_defense, resolve_defenses
from rtok.defenses.tokens import RobustnessTokens

__all__ = ["Defense", "RobustnessTokens", "defense_files", "load_defense", "resolve_defenses"]
