"""Defenses: what is added to a frozen backbone, how it is saved and read, and how it enters the model."""

from rtok.defenses.base import Defense
from rtok.defenses.files import defense_files, load_defense, resolve_defenses
from rtok.defenses.stack import Stack
from rtok.defenses.tokens import RobustnessTokens
from rtok.release import parse_made_for

__all__ = [
    "Defense",
    "RobustnessTokens",
    "Stack",
    "defense_files",
    "load_defense",
    "parse_made_for",
    "resolve_defenses",
]
