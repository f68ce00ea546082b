"""Robustness tokens: extra, private input tokens that make public Vision Transformers harder to attack."""

__version__ = "0.1.0"
