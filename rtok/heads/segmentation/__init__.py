"""Segmentation heads on mmsegmentation; nothing outside this package imports mmseg."""
