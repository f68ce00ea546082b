"""Semantic segmentation as a measurement."""

from rtok.evaluation.tasks.segmentation.run import evaluate_segmentation

__all__ = ["evaluate_segmentation"]
