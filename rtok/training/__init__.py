"""Training of robustness tokens."""

from rtok.training.loop import TrainResult, train

__all__ = ["TrainResult", "train"]
