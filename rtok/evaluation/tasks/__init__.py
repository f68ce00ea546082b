"""The measurements: features, classification, segmentation."""
