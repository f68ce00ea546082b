"""Defense kinds."""

from rtok.config.registry import DEFENSES
from rtok.config.sections import TokensConfig

DEFENSES.add("tokens", "rtok.defenses.tokens:RobustnessTokens", section=TokensConfig)
