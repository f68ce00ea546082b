"""The typed config: from YAML, `--set` and the environment to one frozen `Config`."""

from rtok.config.attack import AttackConfig
from rtok.config.defenses import DefenseConfig, TokensConfig
from rtok.config.head import HeadConfig
from rtok.config.load import load_config
from rtok.config.schema import Config
from rtok.config.sections import DataConfig, ModelConfig, SurrogateConfig
from rtok.config.training import TrainConfig

__all__ = [
    "AttackConfig",
    "Config",
    "DataConfig",
    "DefenseConfig",
    "HeadConfig",
    "ModelConfig",
    "SurrogateConfig",
    "TokensConfig",
    "TrainConfig",
    "load_config",
]
