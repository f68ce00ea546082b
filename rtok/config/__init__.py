"""The typed config: YAML, `--set` and the environment in; one frozen `Config` out."""

from rtok.config.attack import AttackConfig
from rtok.config.head import HeadConfig
from rtok.config.load import load_config
from rtok.config.schema import Config
from rtok.config.sections import (
    DataConfig,
    ModelConfig,
    SurrogateConfig,
    TokensConfig,
    TrainConfig,
)

__all__ = [
    "AttackConfig",
    "Config",
    "DataConfig",
    "HeadConfig",
    "ModelConfig",
    "SurrogateConfig",
    "TokensConfig",
    "TrainConfig",
    "load_config",
]
