"""Semantic segmentation on mmsegmentation; nothing outside this package imports mmseg."""

from rtok.evaluation.segmentation.run import evaluate_segmentation

__all__ = ["evaluate_segmentation"]
